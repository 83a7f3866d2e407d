"""Builds tokenizers by name; saves and loads them as JSON files."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from minigpt.config.validation import as_strings
from minigpt.errors import InputError, UsageError, unknown
from minigpt.runtime import atomic_io
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import base, bpe_trainer, byte_pairs
from minigpt.tokenizers.bpe import BPETokenizer
from minigpt.tokenizers.char import CharTokenizer
from minigpt.tokenizers.cuts import ANYWHERE, Cuts
from minigpt.tokenizers.gpt2 import GPT2Tokenizer
from minigpt.tokenizers.word import WordTokenizer

_FROM_TEXT: dict[str, Callable[[Iterable[str]], base.Tokenizer]] = {
  'char': CharTokenizer.build,
  'word': WordTokenizer.build,
  'gpt2': lambda parts: GPT2Tokenizer(),
}
_FROM_JSON: dict[str, Callable[[dict[str, Any]], base.Tokenizer]] = {
  'char': CharTokenizer.from_json,
  'word': WordTokenizer.from_json,
  'gpt2': GPT2Tokenizer.from_json,
}


def build(
  kind: str,
  text: str | Iterable[str],
  vocab_size: int | None = None,
  special: Sequence[str] = (),
  unknown_character: bool = False,
) -> base.Tokenizer:
  """Builds a tokenizer, with a vocabulary learned from a text where needed.

  Args:
    kind: 'char', 'word' or 'bpe', which learn from the text; 'gpt2'; or the
      path of a tokenizer.json, minigpt's or Hugging Face's.
    text: the text, whole or in parts that no token spans.
    vocab_size: number of tokens to train for 'bpe'; the others' is fixed.
    special: special tokens of 'bpe', besides `<|endoftext|>`.
    unknown_character: whether 'char' gets a token for unknown characters.

  Raises:
    UsageError: the kind is unknown, or does not support the size or the special
      tokens.
    InputError: the text is empty, the file is not a tokenizer, or GPT-2's
      vocabulary is not available.
  """
  _check(kind, special, unknown_character)
  parts = as_strings(text)
  if kind == 'bpe':
    return bpe_trainer.train(parts, vocab_size, special)
  tokenizer = _make(kind, parts, unknown_character)
  if vocab_size not in (None, tokenizer.vocab_size):
    raise UsageError(
      f'--vocab_size={vocab_size}: the {kind} tokenizer has '
      f'{tokenizer.vocab_size}; leave the flag out, or choose bpe'
    )
  return tokenizer


def _check(kind: str, special: Sequence[str], unknown_character: bool) -> None:
  """Raises UsageError for an option that the kind does not support."""
  if unknown_character and kind != 'char':
    raise UsageError(
      f'--unknown_character is for the char tokenizer; leave it out for {kind}'
    )
  if special and kind != 'bpe':
    raise UsageError(
      f'--special is for the bpe tokenizer; leave it out for {kind}'
    )


def _make(
  kind: str, parts: Iterable[str], unknown_character: bool
) -> base.Tokenizer:
  """Makes a tokenizer whose size is not chosen."""
  if kind.endswith('.json'):
    return load(kind)
  if kind not in _FROM_TEXT:
    raise unknown('tokenizer', kind, [*_FROM_TEXT, 'bpe', 'a tokenizer.json'])
  if unknown_character:
    return CharTokenizer.build(parts, True)
  return _FROM_TEXT[kind](parts)


def cuts_to_learn(kind: str, special: Sequence[str] = ()) -> Cuts:
  """Returns where a text may be cut from which `build` learns a vocabulary.

  Args:
    kind: as for `build`.
    special: special tokens of 'bpe'.
  """
  if kind == 'word':
    return WordTokenizer.cuts
  if kind == 'bpe':  # Without a good place, a rare bad cut does no harm.
    return (*byte_pairs.cuts(special), *ANYWHERE)
  return ANYWHERE  # 'char' counts single characters; others do not learn.


def save(tokenizer: base.Tokenizer, path: str | Path) -> None:
  """Writes a tokenizer as JSON.

  Raises:
    InputError: it cannot be written; the previous file is untouched.
  """
  atomic_io.write_text(path, base.json_text(tokenizer))


def load(path: str | Path) -> base.Tokenizer:
  """Reads a tokenizer from minigpt's or Hugging Face's tokenizer.json.

  Raises:
    InputError: the file cannot be read, or is not a supported tokenizer.
  """
  fields = read_json(path)
  try:
    return _from_json(fields)
  except InputError as error:
    raise InputError(f'{path}: {error}') from error


def _from_json(fields: dict[str, Any]) -> base.Tokenizer:
  if 'kind' not in fields and 'model' in fields:
    return BPETokenizer.from_json(fields)  # A file of Hugging Face.
  kind = fields.get('kind')
  if not isinstance(kind, str) or kind not in _FROM_JSON:
    raise InputError(f"'kind' must be one of {', '.join(_FROM_JSON)}")
  return _FROM_JSON[kind](fields)
