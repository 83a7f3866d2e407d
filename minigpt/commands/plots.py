"""Draws the loss curves of one or many runs.

  python -m minigpt.commands.plots runs/*

writes losses.png and losses.svg; --output names another file.
"""

from pathlib import Path

from absl import flags

from minigpt.analysis import figures
from minigpt.errors import UsageError
from minigpt.runtime import app

_OUTPUT = flags.DEFINE_string(
  'output', 'losses', '.png, .svg or .pdf file; without a suffix: PNG and SVG'
)


def main(runs: list[str]) -> None:
  if not runs:
    raise UsageError('name at least one work directory')
  figure = figures.losses([Path(run) for run in runs])
  for picture in figures.save(figure, Path(_OUTPUT.value)):
    print(picture)


if __name__ == '__main__':
  app.run(main, takes_arguments=True)
