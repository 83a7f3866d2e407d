"""One module for each command of `minigpt`."""
