"""Imports of the forkserver from which `helpers` forks."""

from minigpt.runtime import startup

startup.configure()
import minigpt.data.shard_writer  # noqa: E402, F401
