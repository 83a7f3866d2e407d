r"""Shows a data set as training would see it.

  python -m minigpt data --dataset='data/*.txt' --tokenizer=char

Prints the number and size of tokens, the split, characters that only the
validation part has, repeated lines, lengths of lines, and five windows. With
--output, it draws the lengths of lines. In a token directory, it keeps the
statistics of each shard for the next call.
"""

from pathlib import Path

from minigpt.analysis import figures
from minigpt.commands.flags import data as flags
from minigpt.config import DataConfig
from minigpt.data import overview
from minigpt.data.sources import resolve_tokenizer
from minigpt.runtime import app


def main() -> None:
  """Prints the statistics, and draws the lengths of lines if wanted."""
  values = resolve_tokenizer(app.explicit_flags(flags.FLAGS, DataConfig))
  found = overview.look(
    DataConfig(**values), flags.CONTEXT_LENGTH.value, flags.VOCAB_SIZE.value
  )
  print(overview.describe(found))
  if flags.OUTPUT.value:
    figure = figures.bars(
      overview.labels(), found.lines.histogram, 'characters', 'lines'
    )
    for picture in figures.save(figure, Path(flags.OUTPUT.value)):
      print(picture)
