"""Imported before all else: TensorFlow then prints no log lines of its own."""

from minigpt.runtime import startup

startup.configure()
