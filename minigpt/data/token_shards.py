"""Token directories: text of any size as memory-mapped arrays.

manifest.json     counts, checksums, the names of the shards; written last
tokenizer.json    the tokenizer that made them
shard-00000.npy   token ids [N], one-dimensional and unsigned
checked.json      results of the last check of each shard
"""

import copy
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from minigpt.data.findings import Findings, identity
from minigpt.errors import InputError
from minigpt.runtime.json_io import read_json

MANIFEST = 'manifest.json'
PLAN = 'plan.json'  # Exists until the manifest is written.
CHECKED = 'checked.json'
_CHUNK = 1 << 22  # Tokens read at a time.
_MOST_MAPS = 256
_DTYPES = ('uint8', 'uint16', 'uint32')


class Shard(NamedTuple):
  """One file of a token directory, as its manifest describes it."""

  name: str
  n_tokens: int
  crc32: int
  n_documents: int


class Manifest(NamedTuple):
  """The description of a token directory."""

  dtype: str
  vocab_size: int
  shards: tuple[Shard, ...]

  def to_json(self) -> dict[str, Any]:
    """Returns the fields, with totals over the shards for people to read."""
    shards = [shard._asdict() for shard in self.shards]
    totals = {
      'n_tokens': sum(shard.n_tokens for shard in self.shards),
      'n_documents': sum(shard.n_documents for shard in self.shards),
    }
    return {**self._asdict(), **totals, 'shards': shards}


class TokenShards:
  """The arrays of several files as one array [N], read when indexed.

  The index may be an integer, a slice of step 1, or an integer array of any
  shape; `part` returns a view of a range.
  """

  ndim = 1

  def __init__(
    self,
    lengths: Sequence[int],
    array: Callable[[int], np.ndarray],
    dtype: npt.DTypeLike,
    crc32: int = 0,
    n_ids: float = math.inf,
  ):
    """Stores the arguments; reads nothing yet.

    Args:
      lengths: the length of each array, in order.
      array: returns the array [n] of an index in `lengths`.
      dtype: of all arrays.
      crc32: a checksum of all arrays.
      n_ids: an upper bound: all ids are known to be below it.
    """
    self.dtype = np.dtype(dtype)
    self.n_ids = n_ids
    self._lengths = lengths
    self._array = array
    self._crc32 = crc32
    self._ends = np.cumsum(lengths)
    self._start, self._stop = 0, int(self._ends[-1])

  @classmethod
  def of(
    cls, tokens: np.ndarray, crc32: int = 0, n_ids: float = math.inf
  ) -> 'TokenShards':
    """Wraps a single array [N]; other arguments as for several."""
    return cls([len(tokens)], lambda _: tokens, tokens.dtype, crc32, n_ids)

  def __len__(self) -> int:
    return self._stop - self._start

  def part(self, start: int, stop: int) -> 'TokenShards':
    """Returns a view of the tokens from `start` to `stop`."""
    view = copy.copy(self)
    view._start, view._stop = self._start + start, self._start + stop
    return view

  @property
  def crc32(self) -> int:
    """Computes a checksum of the shards' checksums and the range.

    This reads no tokens.
    """
    return zlib.crc32(repr((self._crc32, self._start, self._stop)).encode())

  def __getitem__(self, index: Any) -> np.ndarray:
    if isinstance(index, slice):
      return self._range(*index.indices(len(self))[:2])
    places = np.asarray(index)
    if places.size and (places.min() < 0 or places.max() >= len(self)):
      raise IndexError(f'position outside [0, {len(self)})')
    return self._gather(places.reshape(-1) + self._start).reshape(places.shape)

  def _range(self, start: int, stop: int) -> np.ndarray:
    start, stop = self._start + start, self._start + stop
    found = np.empty([max(stop - start, 0)], self.dtype)
    n = 0
    owner = int(np.searchsorted(self._ends, start, side='right'))
    while n < len(found):
      # Copied at once: a view would keep the file open.
      first = start + n - self._begin(owner)
      part = self._array(owner)[first : first + len(found) - n]
      found[n : n + len(part)] = part
      n, owner = n + len(part), owner + 1
    return found

  def _gather(self, places: np.ndarray) -> np.ndarray:  # [n] -> [n]
    found = np.empty(places.shape, self.dtype)
    owners = np.searchsorted(self._ends, places, side='right')
    for owner in np.unique(owners).tolist():
      mine = owners == owner
      found[mine] = self._array(owner)[places[mine] - self._begin(owner)]
    return found

  def _begin(self, owner: int) -> int:
    return int(self._ends[owner]) - self._lengths[owner]


# Token ids [N], in memory, memory-mapped, or spread over several files.
Tokens: TypeAlias = np.ndarray | TokenShards


def token_dtype(vocab_size: int) -> np.dtype:
  """Returns the smallest unsigned dtype that holds every token id."""
  return np.min_scalar_type(vocab_size - 1)


def is_token_directory(path: str | Path) -> bool:
  """Tells whether `path` is a finished directory of `minigpt prepare`."""
  return (Path(path) / MANIFEST).is_file()


def read_manifest(folder: str | Path) -> Manifest:
  """Reads a directory's manifest.

  Raises:
    InputError: the file cannot be read, or is no manifest.
  """
  path = Path(folder) / MANIFEST
  fields = read_json(path)
  try:
    return _manifest(fields)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(
      f'{path} is not a manifest ({error}); make the directory again with '
      'minigpt prepare'
    ) from None


def _manifest(fields: dict[str, Any]) -> Manifest:
  shards = tuple(parse_shard(shard) for shard in fields['shards'])
  dtype, vocab_size = fields['dtype'], fields['vocab_size']
  if dtype not in _DTYPES or not shards:
    raise ValueError('its dtype or list of shards makes no sense')
  if type(vocab_size) is not int:
    raise ValueError(f'its vocab_size is {vocab_size!r}')
  return Manifest(dtype, vocab_size, shards)


def parse_shard(fields: dict[str, Any]) -> Shard:
  """Reads the description of a shard.

  Raises:
    TypeError: the fields are wrong.
    ValueError: the name is not a file in the directory, or a count is invalid.
  """
  shard = Shard(**fields)
  name = shard.name
  if (
    not isinstance(name, str)
    or Path(name).name != name
    or not name.endswith('.npy')
  ):
    raise ValueError(f'{name!r} is not the name of a shard')
  if not all(type(count) is int and count >= 0 for count in shard[1:]):
    raise ValueError(f'{name} has counts that are none')
  return shard


def open_tokens(folder: str | Path) -> TokenShards:
  """Checks the shards against the manifest, and maps them when indexed.

  A shard that is unchanged since its last check is not read again, except for
  one in turn: so the decay of a disk is found at one of the next starts.

  Raises:
    InputError: a shard is missing, or has a wrong size or checksum. If a shard
      disappears later, indexing raises it.
  """
  folder = Path(folder)
  manifest = read_manifest(folder)
  shards = manifest.shards

  # Each map keeps a file open, and the system limits their number.
  @functools.lru_cache(_most_maps())
  def array(place: int) -> np.ndarray:
    return _map_shard(folder, shards[place], manifest)

  findings = Findings(folder / CHECKED)
  due = findings.oldest()
  n_ids: float = 0
  for place, shard in enumerate(shards):
    array(place)
    n_ids = max(n_ids, _check(folder, shard, findings, shard.name == due))
  findings.save()
  return TokenShards(
    [shard.n_tokens for shard in shards],
    array,
    manifest.dtype,
    zlib.crc32(repr([shard.crc32 for shard in shards]).encode()),
    n_ids,
  )


def _check(
  folder: Path, shard: Shard, findings: Findings, is_due: bool
) -> float:
  """Returns an upper bound of a shard's ids; raises InputError for damage."""
  path = folder / shard.name
  n_ids: float
  match None if is_due else findings.get(path):
    case [int(crc32), int(n_ids)]:
      pass
    case _:
      before = identity(path)
      crc32, n_ids = read_content(path)
      findings.put(path, [crc32, n_ids], before)
  if crc32 != shard.crc32:
    raise InputError(
      f'{path} is damaged: its checksum is not that of the manifest; delete it '
      f'and {MANIFEST}, and run minigpt prepare again'
    )
  return n_ids


def read_content(path: Path, crc32: int = 0) -> tuple[int, float]:
  """Returns the checksum of a file of tokens, and an upper bound of its ids.

  The bound is infinite if an id is negative. The file is read, not mapped, as
  mapped pages would count as this process's memory.

  Args:
    path: the file.
    crc32: the checksum of preceding data.
  """
  tokens = map_tokens(path)
  assert isinstance(tokens, np.memmap)
  n_ids: float = 0
  with open(path, 'rb') as file:
    file.seek(tokens.offset)
    while len(part := np.fromfile(file, tokens.dtype, _CHUNK)):
      crc32 = zlib.crc32(part.data, crc32)
      n_ids = max(n_ids, int(part.max()) + 1)
      if part.dtype.kind == 'i' and part.min() < 0:
        n_ids = math.inf
  return crc32, n_ids


def _most_maps() -> int:
  """Returns how many files may stay mapped, given the limit of open files."""
  try:
    import resource
  except ImportError:  # Windows has no such limit.
    return _MOST_MAPS
  may_be_open, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
  if may_be_open == resource.RLIM_INFINITY:
    return _MOST_MAPS
  return min(_MOST_MAPS, max(may_be_open // 4, 1))


def _map_shard(folder: Path, shard: Shard, manifest: Manifest) -> np.ndarray:
  path = folder / shard.name
  tokens = map_tokens(path)
  if tokens.dtype != manifest.dtype or len(tokens) != shard.n_tokens:
    raise InputError(
      f'{path} holds {len(tokens):,} tokens of {tokens.dtype}, its manifest '
      f'says {shard.n_tokens:,} of {manifest.dtype}; make it again'
    )
  return tokens


def checksum(tokens: np.ndarray, crc: int = 0, chunk: int = _CHUNK) -> int:
  """Computes the CRC-32 of an array's bytes, read in bounded memory.

  Args:
    tokens: [N], of any dtype.
    crc: the checksum of preceding data.
    chunk: tokens read at a time.
  """
  for start in range(0, len(tokens), chunk):
    part = np.ascontiguousarray(tokens[start : start + chunk])
    crc = zlib.crc32(part.data, crc)
  return crc


def map_tokens(path: str | Path) -> np.ndarray:
  """Maps a .npy file of token ids [N].

  Raises:
    InputError: the file cannot be read, or does not hold token ids.
  """
  try:
    tokens = np.load(path, mmap_mode='r', allow_pickle=False)
  except OSError as error:
    raise InputError(f'{path}: {error.strerror or error}') from None
  except Exception as error:  # NumPy parses headers with Python's own parser.
    raise InputError(f'{path} is not a .npy file of tokens: {error}') from None
  if (
    not isinstance(tokens, np.ndarray)
    or tokens.ndim != 1
    or tokens.dtype.kind not in 'ui'
  ):
    raise InputError(
      f'{path} does not hold token ids, a one-dimensional integer array'
    )
  return tokens


def map_file(file: IO[bytes]) -> np.ndarray:
  """Maps an open .npy file, int [N]; the file may be closed afterwards."""
  file.flush()
  file.seek(0)
  np.lib.format.read_magic(file)
  shape, _, dtype = np.lib.format.read_array_header_1_0(file)
  if not shape[0]:
    return np.zeros(shape, dtype)  # An empty file cannot be mapped.
  return np.memmap(file, dtype, 'r', file.tell(), shape)
