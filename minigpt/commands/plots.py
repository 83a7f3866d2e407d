"""Draws losses, learning rates and gradient norms of one or many runs.

  python -m minigpt plots runs/*

Writes losses.png and losses.svg; --output names another file.
"""

from pathlib import Path

from minigpt.analysis import figures, run_figures
from minigpt.commands.flags import plots as flags
from minigpt.errors import UsageError


def main(runs: list[str]) -> None:
  """Draws the curves of the work directories `runs`."""
  if not runs:
    raise UsageError('name at least one work directory')
  figure = run_figures.curves([Path(run) for run in runs])
  for picture in figures.save(figure, Path(flags.OUTPUT.value)):
    print(picture)
