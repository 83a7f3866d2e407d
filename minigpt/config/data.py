"""The settings of a run's data."""

import dataclasses

from minigpt.config.validation import (
  as_strings,
  check_fraction,
  check_not_negative,
  option,
)


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The text of a run, its tokenizer, and how it is cut into examples.

  Raises:
    UsageError: `val_fraction` is outside [0, 1) or `stride` is negative.
  """

  dataset: str = option(
    'sample',
    "'sample', 'stdlib', 'tiny_shakespeare', or a path, folder or glob of "
    'UTF-8 text (.jsonl, .parquet, .gz, .zst too), a .npy file of token ids, a '
    '.jsonl file of prompts and completions, or a directory that `minigpt '
    'prepare` made',
  )
  tokenizer: str = option(
    'char',
    "'char', 'word', 'gpt2', 'bpe' (trained on the text, with --vocab_size), "
    "or the path of a tokenizer.json, minigpt's or Hugging Face's",
  )
  special: tuple[str, ...] = option(
    (),
    "a special token of --tokenizer=bpe, like '<|user|>', which is one token "
    'wherever text spells it; may be repeated',
  )
  unknown_character: bool = option(
    False,
    'with --tokenizer=char: add a token, U+FFFD, for characters that are not '
    'in the text, so that no prompt is refused',
  )
  raw_text: bool = option(
    False,
    'keep byte order marks and CRLF line ends of text files, which are '
    'otherwise dropped and turned into LF',
  )
  skip_bad_files: bool = option(
    False, 'leave out text files that cannot be read, instead of stopping'
  )
  val_fraction: float = option(
    0.1,
    'last part of the text kept for validation; 0 trains on everything and '
    'evaluates on the same text',
  )
  own_splits: bool = option(
    False, "use the data set's own splits instead of val_fraction"
  )
  stride: int = option(
    0,
    'distance between the starts of neighbouring windows; 0: context_length',
  )
  truncate: bool = option(
    False,
    'cut the beginning of prompts and completions longer than the context',
  )

  def __post_init__(self) -> None:
    """Checks the fields."""
    object.__setattr__(self, 'special', tuple(as_strings(self.special)))
    check_fraction(self, 'val_fraction')
    check_not_negative(self, 'stride')
