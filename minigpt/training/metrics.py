"""What the user sees of a run, and what the run remembers of itself."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import write_text

_SECONDS_BETWEEN_LINES = 10.0


class MetricsFile:
  """metrics.jsonl: one JSON object a step, flushed as it is written."""

  def __init__(self, path: Path, first_step: int, writes: bool = True):
    """Opens the file, less the steps after the checkpoint: they run again.

    Args:
      writes: False leaves the file to another process, and only reads it.
    """
    kept = [m for m in read_metrics(path) if m['step'] <= first_step]
    self._path = path
    self.losses = [m['train_loss'] for m in kept]  # of every step so far
    if writes:
      write_text(path, ''.join(map(_line, kept)))
    name = path if writes else os.devnull
    self._file = open(name, 'a', encoding='utf-8')  # noqa: SIM115

  def write(self, records: list[dict[str, Any]]) -> None:
    try:
      self._file.write(''.join(map(_line, records)))
      self._file.flush()
      self.losses += [m['train_loss'] for m in records]
    except OSError as error:
      raise InputError(
        f'{self._path} could not be written ({error.strerror}); the run '
        'continues from its last checkpoint'
      ) from None

  def sync(self) -> None:
    """Makes sure that what was written outlives the machine."""
    if self._file.name != os.devnull:
      os.fsync(self._file.fileno())

  def close(self) -> None:
    with contextlib.suppress(OSError):  # A full disk was reported by `write`.
      self._file.close()


def _line(metrics: dict[str, Any]) -> str:
  return json.dumps(metrics) + '\n'


def read_metrics(path: Path) -> list[dict[str, Any]]:
  """The file's objects; a last line cut short by a crash is left out."""
  if not path.is_file():
    return []
  metrics = []
  for line in path.read_bytes().splitlines():
    try:
      record = json.loads(line)
      float(record['train_loss']), int(record['step'])
    except (KeyError, TypeError, ValueError, RecursionError):
      break
    metrics.append(record)
  return metrics


def cut_samples(path: Path, last_step: int) -> None:
  """Drops the samples after the checkpoint: their steps run again."""
  if path.is_file():
    text = path.read_text(encoding='utf-8')
    titles = re.finditer(r'^--- step (\d+)$', text, re.MULTILINE)
    late = (t.start() for t in titles if int(t[1]) > last_step)
    write_text(path, text[: next(late, len(text))])


def watch(batches: Iterable, n: int) -> Iterable:
  """Shows how far `n` batches have come: a bar, or a line now and then."""
  interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
  return tqdm(batches, total=n, unit='batch', mininterval=interval)


class Progress:
  """A bar on a terminal, plain lines elsewhere."""

  def __init__(self, first_step: int, steps: int):
    self._steps = steps
    self._started = time.monotonic()
    self._first_step = first_step
    self._line_due = 0.0
    self._bar = tqdm(
      total=steps,
      initial=first_step,
      unit='step',
      dynamic_ncols=True,
      disable=not sys.stderr.isatty(),
    )

  def say(self, text: str) -> None:
    """Prints a message of its own, above the bar where there is one."""
    tqdm.write(text)
    sys.stdout.flush()

  def step(self, metrics: dict[str, Any], important: bool = False) -> None:
    """Shows the state of the run after `metrics['step']` steps."""
    if not self._bar.disable:
      self._bar.set_postfix_str(_brief(metrics), refresh=False)
      self._bar.update(metrics['step'] - self._bar.n)
      if important:
        self.say(self._line(metrics))
    elif important or time.monotonic() >= self._line_due:
      self.say(self._line(metrics))
      self._line_due = time.monotonic() + _SECONDS_BETWEEN_LINES

  def close(self) -> None:
    self._bar.close()

  def _line(self, metrics):
    step = metrics['step']
    per_step = (time.monotonic() - self._started) / (step - self._first_step)
    left = f'{clock(per_step * (self._steps - step))} left'
    return f'step {step}/{self._steps}  {_brief(metrics)}  {left}'


def _brief(m: dict[str, Any]) -> str:
  val = f'  val {m["val_loss"]:.4f}' if 'val_loss' in m else ''
  return (
    f'loss {m["train_loss"]:.4f}{val}  lr {m["learning_rate"]:.1e}  '
    f'grad {m["grad_norm"]:.2f}  {m["tokens_per_second"]:,.0f} tokens/s'
  )


def clock(seconds: float) -> str:
  """1:05 or 2:01:05."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02}:{seconds:02}'
  return f'{minutes}:{seconds:02}'
