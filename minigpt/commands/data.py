r"""Shows a data set as training would see it.

  python -m minigpt data --dataset='data/*.txt' --tokenizer=char

Tokens and their size, the split, characters that only the validation part has,
lines that come again, lengths of lines, and five windows. It writes the picture
that --output names, and into a token directory what its shards hold.
"""

from pathlib import Path

from minigpt.analysis import figures
from minigpt.commands.flags import data as flags
from minigpt.config import DataConfig
from minigpt.data import overview
from minigpt.data.sources import resolve_tokenizer
from minigpt.runtime import app


def main() -> None:
  """Prints what is found, and draws the lengths where they are wanted."""
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
