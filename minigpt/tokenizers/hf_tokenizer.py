"""Reads and writes Hugging Face's tokenizer.json for byte-level BPE.

Such a file specifies how text is normalized, split, merged and post-processed:
https://huggingface.co/docs/tokenizers. minigpt stores its own vocabularies in
this format too, so that `tokenizers` and `transformers` can read them.
"""

from typing import Any

from minigpt.errors import InputError, UsageError
from minigpt.tokenizers import byte_pairs, hf_files, special

_REMEDY = 'train one of your own with `minigpt tokenizer`'
_BYTE_LEVEL = {
  'type': 'ByteLevel',
  'add_prefix_space': False,
  'trim_offsets': True,
  'use_regex': True,
}
_PLAIN = {'single_word': False, 'lstrip': False, 'rstrip': False}
# Values that mean the same as leaving the field out.
_NOTHING = (None, False, '', 0)


def describe(
  tokens: list[bytes], special_ids: dict[str, int]
) -> dict[str, Any]:
  """Returns the content of the file.

  Args:
    tokens: bytes by id.
    special_ids: the id of each special token.
  """
  names = {i: token for token, i in special_ids.items()}
  vocabulary = {
    names.get(i) or hf_files.spelled(token): i for i, token in enumerate(tokens)
  }
  mergeable = [token for i, token in enumerate(tokens) if i not in names]
  added = [
    {'id': i, 'content': token, **_PLAIN, 'normalized': False, 'special': True}
    for i, token in sorted(names.items())
  ]
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': added,
    'normalizer': None,
    'pre_tokenizer': _BYTE_LEVEL,
    'post_processor': None,
    'decoder': _BYTE_LEVEL,
    'model': {
      'type': 'BPE',
      'dropout': None,
      'unk_token': None,
      'continuing_subword_prefix': None,
      'end_of_word_suffix': None,
      'fuse_unk': False,
      'byte_fallback': False,
      'ignore_merges': False,
      'vocab': vocabulary,
      'merges': hf_files.merges(mergeable),
    },
  }


def parse(fields: dict[str, Any]) -> tuple[list[bytes], dict[str, int]]:
  """Returns the bytes of each token by id, and the ids of special tokens.

  The file's `post_processor`, which adds tokens around a text, is ignored.

  Raises:
    InputError: the file is not byte-level BPE with GPT-2's split, or makes no
      sense.
  """
  try:
    _check_kind(fields)
    special_ids = _special_ids(fields.get('added_tokens') or [])
    tokens = _tokens(fields['model']['vocab'], special_ids)
    _check_merges(tokens, special_ids, fields['model']['merges'])
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise InputError(
      f'it is not a tokenizer of Hugging Face: {error!r:.80}'
    ) from None
  return tokens, special_ids


def _check_kind(fields: dict[str, Any]) -> None:
  """Raises InputError for settings that would encode text in another way."""
  model = fields['model']
  kind = model.get('type', 'BPE')
  if kind != 'BPE':
    raise InputError(
      f'it is a {kind!r:.20} tokenizer; minigpt reads byte-level BPE; {_REMEDY}'
    )
  for name in ('dropout', 'continuing_subword_prefix', 'end_of_word_suffix'):
    if model.get(name) not in _NOTHING:
      raise InputError(
        f'its BPE has a {name}, which minigpt does not support; {_REMEDY}'
      )
  if fields.get('normalizer') is not None:
    name = fields['normalizer'].get('type')
    raise InputError(
      f'it normalizes text ({name!r:.20}), so decoding would not return the '
      f'original text; {_REMEDY}'
    )
  split = fields.get('pre_tokenizer') or {}
  found = {'use_regex': True, **split, 'trim_offsets': True}
  if found != _BYTE_LEVEL:
    raise InputError(
      f'its pre-tokenizer ({split.get("type")!r:.20}) does not split text as '
      f'GPT-2 does, which is all that minigpt supports; {_REMEDY}'
    )


def _special_ids(added: list[dict[str, Any]]) -> dict[str, int]:
  ids: dict[str, int] = {}
  for token in added:
    content = token['content']
    if any(token.get(name) for name in _PLAIN):
      raise InputError(
        f'its special token {content!r:.40} takes white space or whole words, '
        f'which minigpt does not; {_REMEDY}'
      )
    if content in ids:
      raise InputError(f'its special token {content!r:.40} comes twice')
    ids[content] = token['id']
  try:
    special.check([token for token in ids if token != special.END_OF_TEXT])
  except UsageError as error:
    raise InputError(f'{error}; or {_REMEDY}') from None
  return ids


def _tokens(
  vocabulary: dict[str, int], special_ids: dict[str, int]
) -> list[bytes]:
  """Returns the bytes of each token; special ones are plain UTF-8."""
  ids = {**vocabulary, **special_ids}
  n = len(ids)
  if n > byte_pairs.MAX_VOCAB_SIZE:
    raise InputError(
      f'it has {n:,} tokens; minigpt has room for '
      f'{byte_pairs.MAX_VOCAB_SIZE:,}; {_REMEDY}'
    )
  if sorted(map(int, ids.values())) != list(range(n)):
    raise InputError('its ids are not 0, 1, 2, ..., each once')
  tokens = [b''] * n
  for name, i in ids.items():
    known = name in special_ids
    tokens[i] = name.encode() if known else hf_files.unspelled(name)
    if not known and len(tokens[i]) > byte_pairs.LONGEST_TOKEN:
      raise InputError(
        f'its token {i} is longer than {byte_pairs.LONGEST_TOKEN} bytes; '
        f'{_REMEDY}'
      )
  return tokens


def _check_merges(
  tokens: list[bytes], special_ids: dict[str, int], merges: list[Any]
) -> None:
  """Checks that the ids of the tokens imply the file's list of merges.

  minigpt stores no merges: of two possible merges, it makes the one whose token
  has the lower id. So the file's merges must be those that `hf_files.merges`
  derives from the tokens, in the order of their ids.
  """
  apart = set(special_ids.values())
  mergeable = [token for i, token in enumerate(tokens) if i not in apart]
  missing = {bytes([b]) for b in range(256)} - set(mergeable)
  if missing or len(set(mergeable)) < len(mergeable):
    raise InputError(
      f'{len(missing)} of the 256 bytes are not tokens, or a token is listed '
      f'twice, so some text could not be encoded; {_REMEDY}'
    )
  found = [m if isinstance(m, str) else ' '.join(m) for m in merges]
  if found != hf_files.merges(mergeable):
    raise InputError(
      f'its merges do not follow from its tokens in the order of ids; {_REMEDY}'
    )
