"""GPT-2 in Hugging Face's format: config.json and model.safetensors.

The format stores the same tensors as `params`, in the same orientation, so only
the names are translated. Reading a model never runs code from its files.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from absl import logging

from minigpt import tokenizers
from minigpt.checkpoints.tensor_mapping import Description, Stored, assemble
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.model import params
from minigpt.runtime.atomic_io import new_folder, reason
from minigpt.runtime.json_io import read_json
from minigpt.tokenizers import Tokenizer, hf_files, special

WEIGHTS = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
# A file of minigpt's own, which `transformers` ignores.
TOKENIZER = 'minigpt_tokenizer.json'
_N_GPT2 = 50257  # tokens
_N_GPT2_PADDED = 50304


def read(path: str | Path) -> tuple[GPTConfig, params.Params]:
  """Reads a directory in Hugging Face's format.

  GPT-2 has three dropout rates; the config's `drop_rate` is `resid_pdrop`.

  Returns:
    The config, and the tree with float32 arrays for leaves.

  Raises:
    InputError: the directory holds no GPT-2, or its files contradict each
      other.
  """
  path = Path(path)
  description = Description(path / 'config.json')
  _check_is_gpt2(description)
  stored = _open(path)
  tied = _is_tied(description, stored)
  if tied:
    stored.pop('lm_head.weight', None)
  config = _config(description, tied)
  return config, assemble(path, config, stored, name_of)


def write(
  path: str | Path,
  config: GPTConfig,
  weights: params.Params,
  tokenizer: Tokenizer,
) -> None:
  """Writes a directory that `transformers` loads as a GPT2LMHeadModel.

  The tokenizer is written as `minigpt_tokenizer.json`; a byte-level BPE also in
  Hugging Face's files (see `hf_files`).

  Hugging Face's GPT-2 has all biases: those that `config` leaves out are
  written as zeros, which changes no logit. The padding of the vocabulary is
  written too, and the generation config suppresses its ids.

  Raises:
    InputError: `path` exists, or cannot be written.
  """
  path = Path(path)
  safetensors = _import_safetensors()
  with new_folder(path) as scratch:
    tokenizers.save(tokenizer, scratch / TOKENIZER)
    for name, text in hf_files.files(tokenizer).items():
      (scratch / name).write_text(text, encoding='utf-8')
    for name, content in (
      ('config.json', _describe(config, tokenizer)),
      ('generation_config.json', _describe_generation(config, tokenizer)),
    ):
      (scratch / name).write_text(json.dumps(content, indent=2) + '\n')
    try:
      safetensors.numpy.save_file(
        _tensors(config, weights), scratch / WEIGHTS, metadata={'format': 'pt'}
      )
    except safetensors.SafetensorError as error:
      raise InputError(f'{path} could not be written ({error})') from None


def name_of(leaf: str) -> str:
  """Turns 'blocks.0.attn.c_attn.w' into 'h.0.attn.c_attn.weight'."""
  if leaf in ('wte', 'wpe'):
    return f'{leaf}.weight'
  if leaf == 'head':
    return 'lm_head.weight'
  owner, _, kind = leaf.replace('blocks.', 'h.').rpartition('.')
  return f'{owner}.{"bias" if kind == "b" else "weight"}'


# Settings that change what a GPT-2 computes, and the values minigpt supports.
_GPT2 = {
  'model_type': ('gpt2',),
  'activation_function': ('gelu_new', 'gelu_pytorch_tanh'),
  'layer_norm_epsilon': (1e-5,),
  'scale_attn_weights': (True,),
  'scale_attn_by_inverse_layer_idx': (False,),
  # True only changes the order of scaling, and uses float32.
  'reorder_and_upcast_attn': (False, True),
  'add_cross_attention': (False,),
}


def _check_is_gpt2(description: Description) -> None:
  content = {'model_type': None} | description.content
  for key, known in _GPT2.items():
    value = content.get(key, known[0])
    if value not in known:
      raise InputError(
        f'{description.file}: {key} is {value!r}; only {known[0]!r} can be read'
      )


def _is_tied(description: Description, stored: dict[str, Stored]) -> bool:
  """Tells whether the head is wte, by comparing them as `transformers` does."""
  if not description.content.get('tie_word_embeddings', True):
    return False
  wte, head = stored.get('wte.weight'), stored.get('lm_head.weight')
  return not (wte and head) or np.array_equal(wte.load(), head.load())


def _config(description: Description, tied: bool) -> GPTConfig:
  width = description.integer('n_embd', 768)
  rows = description.integer('vocab_size', 50257)
  vocab_size = _vocab_size(description, rows)
  return description.config(
    vocab_size=vocab_size,
    vocab_padding=rows - vocab_size,
    context_length=description.integer('n_positions', 1024),
    emb_dim=width,
    n_heads=description.integer('n_head', 12),
    n_layers=description.integer('n_layer', 12),
    mlp_ratio=_mlp_ratio(description, width),
    drop_rate=description.content.get('resid_pdrop', 0.1),
    qkv_bias=True,
    tie_embeddings=tied,
  )


def _mlp_ratio(description: Description, width: int) -> int:
  if description.content.get('n_inner') is None:
    return 4
  inner = description.integer('n_inner')
  if inner % width:
    raise InputError(
      f'{description.file}: n_inner={inner} is no multiple of n_embd={width}; '
      'no other width can be read'
    )
  return inner // width


def _vocab_size(description: Description, rows: int) -> int:
  """Counts the embedding rows that are tokens; the others are padding."""
  if 'vocab_padding' in description.content:
    n_tokens = rows - description.integer('vocab_padding', least=0)
  else:
    ids = vocabulary(description.file.parent)
    n_tokens = 1 + max(ids.values()) if ids else rows
    n_tokens = _without_added(description.file.parent, ids, n_tokens)
  if not 0 < n_tokens <= rows:
    raise InputError(
      f'{description.file}: {n_tokens} tokens do not fit an embedding of '
      f'vocab_size={rows} rows'
    )
  return n_tokens


def _without_added(path: Path, ids: dict[str, int], n_tokens: int) -> int:
  """Excludes rows beyond GPT-2's vocabulary that no tokenizer file describes.

  nanoGPT pads GPT-2's vocabulary to a multiple of 64 for speed; others add a
  few tokens, such as [PAD]. Rows that a tokenizer.json describes are kept.
  """
  is_gpt2 = not ids or ids.get(special.END_OF_TEXT) == _N_GPT2 - 1
  is_described = (path / 'tokenizer.json').is_file()
  has_more = _N_GPT2 < n_tokens <= _N_GPT2_PADDED
  if is_described or not (is_gpt2 and has_more):
    return n_tokens
  logging.warning(
    '%s: %d rows after those of GPT-2 are kept as padding, which is neither '
    'read nor generated',
    path,
    n_tokens - _N_GPT2,
  )
  return _N_GPT2


def vocabulary(path: Path) -> dict[str, int]:
  """Reads the ids of all tokens from the tokenizer's files, if there are any.

  Raises:
    InputError: the files hold no table of tokens and ids.
  """
  ids: dict[str, Any] = {}
  for name in ('encoder.json', 'vocab.json', 'added_tokens.json'):
    ids |= read_json(path / name) if (path / name).is_file() else {}
  file = path / 'tokenizer.json'
  try:
    if file.is_file():
      tokenizer = read_json(file)
      ids |= tokenizer['model']['vocab']
      ids |= {
        added['content']: added['id'] for added in tokenizer['added_tokens']
      }
  except (KeyError, TypeError, ValueError):
    ids = {'': None}
  if not all(type(i) is int and i >= 0 for i in ids.values()):
    raise InputError(
      f'{path}: its tokenizer is no table of tokens and ids; remove its files '
      'to read the weights alone'
    )
  return ids


def _import_safetensors() -> ModuleType:
  try:
    import safetensors.numpy
  except ImportError:
    raise InputError(
      "Hugging Face's format needs safetensors: pip install 'minigpt[hf]'"
    ) from None
  return safetensors


# Causal masks, which old versions of `transformers` saved with the weights.
_MASK = re.compile(r'h\.\d+\.attn\.(masked_)?bias')


def _open(path: Path) -> dict[str, Stored]:
  """Lists all tensors by name, without the prefix `transformer.`."""
  safetensors = _import_safetensors()
  tensors = {}
  for file in _safetensors_files(path):
    try:
      # Open it here first: safetensors reports any failure as a missing file.
      file.open('rb').close()
      # `safe_open` checks that offsets, shapes and the file's length agree.
      opened = safetensors.safe_open(file, framework='np')
    except OSError as e:
      raise InputError(f'{file} cannot be read ({reason(e)})') from None
    except safetensors.SafetensorError as e:
      raise InputError(f'{file}: damaged or no safetensors: {e}') from None
    for key in opened.keys():  # noqa: SIM118 (it is not a dictionary)
      name = key.removeprefix('transformer.')
      if name in tensors:
        raise InputError(f'{file}: it holds {name} for the second time')
      if not _MASK.fullmatch(name):
        tensors[name] = _stored(opened, key)
  return tensors


_DTYPES = {'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16'}


def _stored(opened: Any, key: str) -> Stored:
  header = opened.get_slice(key)
  dtype = header.get_dtype()
  return Stored(
    shape=tuple(header.get_shape()),
    dtype=_DTYPES.get(dtype, dtype),
    load=functools.partial(opened.get_tensor, key),
  )


def _safetensors_files(path: Path) -> list[Path]:
  if (path / WEIGHTS).is_file():
    return [path / WEIGHTS]
  if not (path / INDEX).is_file():
    raise InputError(_no_weights(path))
  shards = read_json(path / INDEX).get('weight_map')
  if not isinstance(shards, dict) or not shards:
    raise InputError(f'{path / INDEX}: it has no weight_map')
  # Refuse names with a folder in them, which could lead anywhere on the disk.
  names = sorted({str(name) for name in shards.values()})
  for name in names:
    if name != Path(name).name or not (path / name).is_file():
      raise InputError(
        f'{path / INDEX}: there is no shard {name!r} in its folder'
      )
  return [path / name for name in names]


def _no_weights(path: Path) -> str:
  pickles = sorted(path.glob('*.bin'))
  if not pickles:
    return f'{path}: there is no {WEIGHTS}'
  return (
    f'{pickles[0]}: a pickle can run code and is not read; if you trust it, '
    f'load it with transformers and call save_pretrained to get {WEIGHTS}'
  )


def _tensors(
  config: GPTConfig, weights: params.Params
) -> dict[str, np.ndarray]:
  # Hugging Face's GPT-2 always has biases; zeros compute the same.
  full = params.specs(dataclasses.replace(config, qkv_bias=True, bias=True))
  leaves = params.named_leaves(weights)
  tensors = {}
  for leaf, spec in params.named_leaves(full).items():
    name = name_of(leaf)
    name = name if leaf == 'head' else f'transformer.{name}'
    array = leaves[leaf] if leaf in leaves else np.zeros(spec.shape)
    tensors[name] = np.ascontiguousarray(array, np.float32)
  return tensors


def _describe(config: GPTConfig, tokenizer: Tokenizer) -> dict[str, Any]:
  return {
    'model_type': 'gpt2',
    'architectures': ['GPT2LMHeadModel'],
    'vocab_size': config.vocab_size + config.vocab_padding,
    'vocab_padding': config.vocab_padding,
    'n_positions': config.context_length,
    'n_embd': config.emb_dim,
    'n_head': config.n_heads,
    'n_layer': config.n_layers,
    'n_inner': config.mlp_dim,
    'activation_function': 'gelu_new',
    'layer_norm_epsilon': 1e-5,
    'resid_pdrop': config.drop_rate,
    'embd_pdrop': config.drop_rate,
    'attn_pdrop': config.drop_rate,
    'tie_word_embeddings': config.tie_embeddings,
  } | _special_tokens(tokenizer)


def _describe_generation(
  config: GPTConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
  rows = config.vocab_size + config.vocab_padding
  padding = list(range(config.vocab_size, rows))
  return _special_tokens(tokenizer) | {'suppress_tokens': padding or None}


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int | None]:
  """Names the special tokens; `transformers` would assume GPT-2's."""
  token = tokenizer.end_of_text
  return {'bos_token_id': token, 'eos_token_id': token}
