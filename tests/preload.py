"""What the server imports of which `helpers` starts forks."""

import minigpt.data.shard_writer  # noqa: F401
from minigpt.runtime import startup

startup.configure()
