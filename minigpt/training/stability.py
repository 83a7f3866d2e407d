"""Losses that jump: which step is a spike, and which batches to leave out.

What is left out is kept in `skipped.json`, which is written before the run
goes on without the batch, so a run that is killed leaves out the same ones.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import write_text

WINDOW = 50  # Losses that a new one is compared with.
MOST_SKIPPED = 10  # Batches left out since a checkpoint.


def is_finite(record: dict[str, Any]) -> bool:
  return math.isfinite(record['train_loss']) and math.isfinite(
    record['grad_norm']
  )


def is_spike(
  record: dict[str, Any], losses: Sequence[float], width: float
) -> bool:
  """Is this loss more than `width` standard deviations above the last ones?

  A loss that is not finite is one too. Before `WINDOW` losses, none is.

  Args:
    width: 0 makes nothing a spike.
  """
  if not width or len(losses) < WINDOW:
    return False
  recent = np.array(losses[-WINDOW:])
  limit = recent.mean() + width * recent.std()
  return not is_finite(record) or record['train_loss'] > limit


def skipped(path: Path) -> list[dict[str, Any]]:
  """What `skip` wrote: step, batch and loss of each spike.

  Raises:
    InputError: the file is damaged.
  """
  try:
    entries = json.loads(path.read_text(encoding='utf-8'))
    return [{**entry, 'batch': int(entry['batch'])} for entry in entries]
  except FileNotFoundError:
    return []
  except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
    raise InputError(
      f'{path} is no list of skipped batches ({error}); bring it back from a '
      'copy: without it the run cannot be continued exactly'
    ) from None


def skip(path: Path, record: dict[str, Any], batch: int) -> None:
  """Adds the batch of a spike to the file."""
  entry = {'step': record['step'], 'batch': batch, 'loss': record['train_loss']}
  write_text(path, json.dumps([*skipped(path), entry], indent=2) + '\n')
