"""Text sources, and batches as a function of (seed, step).

Nothing is shuffled in memory: the window at place i of an epoch is the image
of i under a keyed permutation, so any step's batch can be asked for again and
a token file of any size is only ever read through its memory map.

Shapes: N tokens in all, K steps, A accumulated gradients, B batch, T context.
"""

import glob
import os
import sysconfig
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt import tokenizers
from minigpt.config import DataConfig
from minigpt.data import token_shards
from minigpt.data.token_shards import TokenShards
from minigpt.errors import InputError, UsageError, unknown
from minigpt.tokenizers import Tokenizer

SAMPLE = (
  'the sun sets in the west. the stars shine in the night. '
  'the moon rises with grace.'
)


class Split(NamedTuple):
  """A training and a validation part: both text, or both token ids [N]."""

  train: str | np.ndarray | TokenShards
  val: str | np.ndarray | TokenShards


def read_split(config: DataConfig) -> Split:
  """Reads the data set and parts it as `config` says.

  Raises:
    UsageError: no such data set, or it has no splits of its own.
    InputError: a file cannot be read, is not UTF-8, or holds nothing.
  """
  if config.own_splits:
    if config.dataset != 'tiny_shakespeare':
      raise UsageError(
        f'own_splits: {config.dataset} has none; use --val_fraction instead'
      )
    parts = _tiny_shakespeare()
    return Split(parts['train'], parts['validation'])
  whole = _read(config.dataset)
  if not len(whole):
    raise InputError(f'{config.dataset} holds no text; give one that does')
  if config.val_fraction == 0:
    return Split(whole, whole)
  n_train = int(len(whole) * (1 - config.val_fraction))
  if isinstance(whole, TokenShards):
    return Split(whole.part(0, n_train), whole.part(n_train, len(whole)))
  return Split(whole[:n_train], whole[n_train:])


def given_tokenizer(given: dict[str, Any]) -> dict[str, Any]:
  """Adds the tokenizer of a token directory to what was given by hand.

  Raises:
    UsageError: another tokenizer was given.
    InputError: the directory's tokenizer cannot be read.
  """
  dataset = given.get('dataset', '')
  if not token_shards.is_token_directory(dataset):
    return given
  name = directory_tokenizer(dataset).name
  if given.get('tokenizer', name) != name:
    raise UsageError(
      f'--tokenizer={given["tokenizer"]}: the tokens in {dataset} were made '
      f'with {name}; drop the flag, or prepare the text again'
    )
  return {**given, 'tokenizer': name}


def directory_tokenizer(dataset: str) -> Tokenizer | None:
  """The tokenizer of a token directory; None for any other data set."""
  if not token_shards.is_token_directory(dataset):
    return None
  return tokenizers.load(Path(dataset) / 'tokenizer.json')


def _read(dataset: str) -> str | np.ndarray | TokenShards:
  if dataset in _SOURCES:
    return _SOURCES[dataset]()
  if dataset.endswith('.npy'):
    return token_shards.map_tokens(dataset)
  if token_shards.is_token_directory(dataset):
    return token_shards.open_tokens(Path(dataset))
  if os.path.isfile(dataset):
    return _text_file(dataset)
  paths = sorted(filter(os.path.isfile, glob.glob(dataset, recursive=True)))
  if paths:
    return '\n'.join(map(_text_file, paths))
  if os.path.isdir(dataset):
    raise InputError(f"{dataset} is a directory; name its files, as in '*.txt'")
  if os.sep in dataset or glob.has_magic(dataset) or '.' in dataset:
    raise InputError(f'{dataset}: no such file; check the path')
  raise unknown('dataset', dataset, [*_SOURCES, 'a path'])


def _text_file(path: str) -> str:
  try:
    with open(path, 'rb') as file:
      return file.read().decode('utf-8')
  except UnicodeDecodeError as error:
    raise InputError(
      f'{path} is not UTF-8 (byte {error.start}); convert it, for example '
      'with iconv'
    ) from None
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}; check the path') from None


def _stdlib() -> str:
  """The ASCII sources of Python's standard library, in order of their path."""
  root = sysconfig.get_path('stdlib')
  skipped = {'site-packages', 'dist-packages', 'test', 'tests', '__pycache__'}
  texts = []
  for folder, folders, names in os.walk(root):
    folders[:] = sorted(set(folders) - skipped)
    for name in sorted(names):
      if name.endswith('.py'):
        with open(os.path.join(folder, name), 'rb') as file:
          source = file.read()
        if source.isascii():
          texts.append(source.decode('ascii'))
  if not texts:
    raise InputError(f'no Python sources under {root}; use another --dataset')
  return '\n'.join(texts)


def _tiny_shakespeare() -> dict[str, str]:
  """TFDS's three splits; joined in this order they are the original file."""
  import tensorflow_datasets as tfds  # Slow to import, and rarely needed.

  try:
    parts = tfds.load('tiny_shakespeare', batch_size=1)
    return {
      name: next(iter(parts[name]))['text'].numpy()[0].decode('utf-8')
      for name in ('train', 'validation', 'test')
    }
  except Exception as error:  # TFDS lets every kind of network fault through.
    raise InputError(
      'tiny_shakespeare could not be loaded by tensorflow_datasets '
      f'({type(error).__name__}); it needs a network once, or TFDS_DATA_DIR '
      'set to a folder that holds it'
    ) from None


_SOURCES = {
  'sample': lambda: SAMPLE,
  'stdlib': _stdlib,
  'tiny_shakespeare': lambda: ''.join(_tiny_shakespeare().values()),
}


def smallest_unsigned(vocab_size: int) -> np.dtype:
  """The smallest dtype that holds every token id."""
  return np.min_scalar_type(vocab_size - 1)


class Windows(NamedTuple):
  """Every window of T + 1 tokens whose start is a multiple of the stride."""

  tokens: np.ndarray | TokenShards  # [N], in memory or memory-mapped
  context_length: int
  stride: int

  @property
  def count(self) -> int:
    return (len(self.tokens) - self.context_length - 1) // self.stride + 1

  @property
  def n_tokens(self) -> int:
    return len(self.tokens)

  def at(self, starts: np.ndarray) -> np.ndarray:  # [...] -> int32 [..., T + 1]
    offsets = np.arange(self.context_length + 1)
    return self.tokens[starts[..., None] + offsets].astype(np.int32)


class Fingerprint(NamedTuple):
  """Tells one text from another, without keeping either."""

  n_tokens: int
  crc32: int


def fingerprint(*parts: np.ndarray, chunk: int = 1 << 24) -> Fingerprint:
  """Of token arrays [N] one after another, read in bounded memory."""
  crc = 0
  for tokens in parts:
    if isinstance(tokens, TokenShards):
      crc = zlib.crc32(str(tokens.crc32).encode(), crc)
      continue
    for start in range(0, len(tokens), chunk):
      crc = zlib.crc32(np.ascontiguousarray(tokens[start : start + chunk]), crc)
  return Fingerprint(sum(map(len, parts)), crc)


def make_windows(
  tokens: np.ndarray, context_length: int, stride: int, vocab_size: int
) -> Windows:
  """Checks that the text fills a window; a stride of 0 is `context_length`.

  Raises:
    UsageError: the text is shorter than one window.
    InputError: a token id is outside the vocabulary.
  """
  if len(tokens) <= context_length:
    raise UsageError(
      f'the training text has {len(tokens)} tokens, fewer than '
      f'context_length + 1 = {context_length + 1}: lower --context_length or '
      'give more text'
    )
  check_ids(tokens, vocab_size)
  return Windows(tokens, context_length, stride or context_length)


def check_ids(tokens: np.ndarray, vocab_size: int, chunk: int = 1 << 24):
  """Raises InputError for the first id outside [0, vocab_size)."""
  for start in range(0, len(tokens), chunk):
    part = tokens[start : start + chunk]
    wrong = np.flatnonzero((part < 0) | (part >= vocab_size))
    if len(wrong):
      raise InputError(
        f'token id {part[wrong[0]]} at position {start + wrong[0]} is outside '
        f'the vocabulary of {vocab_size}; was it made by another tokenizer?'
      )


def window_order(windows: Windows, examples: np.ndarray, seed: int):
  """Starts of the `examples`-th windows of an endless shuffled stream.

  Each epoch is a fresh permutation of all windows.

  Args:
    examples: int64 [...], counted from 0 over all epochs.
  """
  epoch, place = np.divmod(examples.reshape(-1), windows.count)
  # The kernel of tf.random.experimental.index_shuffle, which itself fails on
  # one key for each index.
  index = tf.raw_ops.RandomIndexShuffle(
    index=place,
    seed=_epoch_keys(seed, epoch),
    max_index=np.int64(windows.count - 1),
    rounds=8,
  )
  return index.numpy().reshape(examples.shape) * windows.stride


def _epoch_keys(seed: int, epochs: np.ndarray) -> np.ndarray:
  """int64 [n] -> int64 [n, 3]; hashed, as near keys give near orders."""
  distinct, places = np.unique(epochs, return_inverse=True)
  keys = [np.random.SeedSequence([seed, e]).generate_state(3) for e in distinct]
  return np.array(keys, np.int64)[places]


def train_batches(
  windows: Any,
  batch_shape: tuple[int, int],
  seed: int,
  calls: list[range],
  call_length: int,
  skipped: Sequence[int] = (),
) -> Iterator[np.ndarray]:
  """The windows of each range of steps, read ahead of their use.

  Args:
    windows: `Windows`, or anything else with its count, stride and `at`.
    batch_shape: (A, B), accumulated gradients and windows in each.
    calls: steps that one call of the train step makes, at most `call_length`;
      a shorter range is filled up with batches that it does not use.
    skipped: numbers of batches that no step is given.

  Yields:
    int32 [K, A, B, T + 1] for each range, K = `call_length`; or the nest of
    arrays that the windows are made of.
  """
  per_step = batch_shape[0] * batch_shape[1]

  def read(first: np.ndarray) -> np.ndarray:
    batch = batch_numbers(first + np.arange(call_length), skipped)
    examples = batch[:, None] * per_step + np.arange(per_step)
    starts = window_order(windows, examples, seed)
    parts = windows.at(starts.reshape(call_length, *batch_shape))
    return tf.nest.flatten(parts)

  firsts = tf.data.Dataset.from_tensor_slices(
    np.array([steps.start for steps in calls], np.int64)
  )
  like = windows.at(np.zeros([1, 1, 1], np.int64))
  dtypes = [part.dtype for part in tf.nest.flatten(like)]
  options = tf.data.Options()
  # There is nothing to tune, and the thread that would do so sleeps for up to a
  # minute at a time: the end of the iterator often waits until it wakes.
  options.autotune.enabled = False
  batches = (
    firsts.map(lambda first: tuple(tf.numpy_function(read, [first], dtypes)))
    .prefetch(2)
    .with_options(options)
    .as_numpy_iterator()
  )
  return (tf.nest.pack_sequence_as(like, list(parts)) for parts in batches)


def batch_numbers(steps: np.ndarray, skipped: Sequence[int]) -> np.ndarray:
  """int64 [K] -> [K]: step s has the s-th batch that is not skipped."""
  for batch in sorted(skipped):
    steps = steps + (batch <= steps)
  return steps


class EvalBatch(NamedTuple):
  windows: np.ndarray  # int32 [B, T + 1]
  weights: np.ndarray  # float32 [B, T]; 0 where a window runs past the end


def eval_starts(n_tokens: int, context_length: int, stride: int) -> np.ndarray:
  """Where the windows that score `n_tokens` begin."""
  return np.arange(0, max(n_tokens - 1 - context_length, 0) + stride, stride)


def eval_batches(
  tokens: np.ndarray,
  context_length: int,
  batch_size: int,
  stride: int = 0,
  limit: int = 0,
) -> Iterator[EvalBatch]:
  """Windows that together score every token but the first just once.

  Args:
    stride: distance between windows, at most `context_length` (0 means that).
      A smaller one gives each token more context and takes more windows.
    limit: number of batches, evenly spread over the tokens; 0: all of them.
  """
  n, t = len(tokens), context_length
  stride = stride or t
  starts = eval_starts(n, t, stride)
  if limit and limit * batch_size < len(starts):
    spread = np.linspace(0, len(starts) - 1, limit * batch_size)
    starts = starts[spread.astype(np.int64)]
  for i in range(0, len(starts), batch_size):
    first = starts[i : i + batch_size]
    first = np.pad(first, [0, batch_size - len(first)], constant_values=n)
    places = first[:, None] + np.arange(t + 1)
    is_new = (places[:, 1:] > first[:, None] + t - stride) | (
      places[:, :1] == 0
    )
    yield EvalBatch(
      tokens[np.minimum(places, n - 1)].astype(np.int32),
      ((places[:, 1:] < n) & is_new).astype(np.float32),
    )
