"""A single .npy file of token ids, memory-mapped.

The whole file is read once, for its fingerprint and to check its ids against
the vocabulary. The results are stored, and valid as long as the file is
unchanged.
"""

from pathlib import Path

from minigpt.data.findings import Findings, identity
from minigpt.data.sources import training_size
from minigpt.data.token_shards import (
  CHECKED,
  TokenShards,
  map_tokens,
  read_content,
)
from minigpt.data.windows import Fingerprint
from minigpt.errors import InputError


def open_file(
  path: Path, val_fraction: float, folder: Path
) -> tuple[TokenShards, TokenShards, Fingerprint]:
  """Maps the training and the validation part of a file.

  Args:
    path: the file.
    val_fraction: share of the validation part; 0: both parts are all tokens.
    folder: where to store the results of the check.

  Raises:
    InputError: the file cannot be read, or holds no tokens.
  """
  tokens = map_tokens(path)
  if not len(tokens):
    raise InputError(f'{path} holds no text; give one that does')
  # The fingerprint covers the training part, then the validation part.
  n_times = 1 if val_fraction else 2
  crc32, n_ids = _content(path, n_times, folder)
  whole = TokenShards.of(tokens, crc32, n_ids)
  found = Fingerprint(n_times * len(tokens), crc32)
  if not val_fraction:
    return whole, whole, found
  n_train = training_size(len(tokens), val_fraction)
  return whole.part(0, n_train), whole.part(n_train, len(tokens)), found


def _content(path: Path, n_times: int, folder: Path) -> tuple[int, float]:
  """Returns the checksum of `n_times` copies, and an upper bound of the ids."""
  findings = Findings(folder / CHECKED)
  n_ids: float
  match findings.get(path):
    case [int(n), int(crc32), int(n_ids)] if n == n_times:
      return crc32, n_ids
  before = identity(path)
  crc32 = n_ids = 0
  for _ in range(n_times):
    crc32, n_ids = read_content(path, crc32)
  findings.put(path, [n_times, crc32, n_ids], before)
  findings.save()
  return crc32, n_ids
