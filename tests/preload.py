"""What the server imports of which `helpers` starts forks."""

from minigpt.runtime import startup

startup.configure()
import minigpt.data.shard_writer  # noqa: E402, F401
