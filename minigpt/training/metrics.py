"""The log of a run: metrics.jsonl, samples.txt, and the progress bar."""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from tqdm import tqdm

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import (
  new_file,
  open_to_append,
  reason,
  write_text,
)
from minigpt.runtime.json_io import parse_json

_SECONDS_BETWEEN_LINES = 10.0
# A line of metrics.jsonl: the metrics of a step. `val_loss` and `val_accuracy`
# exist only after an evaluation; `epoch`, `train_eval_loss` and
# `train_eval_accuracy` only at the end of an epoch.
Record: TypeAlias = dict[str, Any]


class MetricsFile:
  """The file metrics.jsonl: one JSON object a step, flushed at each write."""

  def __init__(self, path: str | Path, first_step: int, writes: bool = True):
    """Opens the file and drops the steps after the checkpoint: they run again.

    Args:
      path: the file.
      first_step: the step of the checkpoint.
      writes: False only reads the file, as another process writes it.
    """
    self._path = Path(path)
    kept = [m for m in read_metrics(path) if m['step'] <= first_step]
    self.losses = [m['train_loss'] for m in kept]  # of every step so far
    self._file: TextIO | None = None
    if writes:
      write_text(self._path, ''.join(map(_line, kept)))
      with _write_errors(self._path):
        self._file = open_to_append(self._path)

  def write(self, records: list[Record]) -> None:
    """Adds a line for each record, or raises InputError."""
    if self._file:
      with _write_errors(self._path):
        self._file.write(''.join(map(_line, records)))
        self._file.flush()
    self.losses += [m['train_loss'] for m in records]

  def sync(self) -> None:
    """Flushes the file to the disk, so that it survives a power failure.

    Raises:
      InputError: it cannot be written; some file systems report a full disk
        or quota only now.
    """
    if self._file:
      with _write_errors(self._path):
        os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    if self._file:
      with contextlib.suppress(OSError):  # `write` already reported the error.
        self._file.close()


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
  """Turns an OSError into an InputError that says how the run continues."""
  try:
    yield
  except OSError as error:
    raise InputError(
      f'{path} could not be written ({reason(error)}); the run continues from '
      'its last checkpoint'
    ) from None


def _line(record: Record) -> str:
  return json.dumps(record) + '\n'


def read_metrics(path: str | Path) -> list[Record]:
  """Reads the records, without a last line that a crash has cut short.

  Raises:
    InputError: the file cannot be read, or a line before the last is damaged.
  """
  path = Path(path)
  if not path.is_file():
    return []
  try:
    lines = path.read_bytes().splitlines()
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  metrics = []
  for number, line in enumerate(lines, 1):
    try:
      metrics.append(_parse_record(line, f'{path}, line {number}'))
    except InputError as error:
      if number < len(lines):
        raise InputError(
          f'{error}; repair the line, or restore the file from a backup'
        ) from None
  return metrics


def last_step(path: str | Path) -> int:
  """Returns the last step in metrics.jsonl, or 0."""
  records = read_metrics(path)
  return records[-1]['step'] if records else 0


def _parse_record(line: bytes, where: str) -> Record:
  record = parse_json(line, where)
  step, loss = record.get('step'), record.get('train_loss')
  if type(step) is not int or type(loss) not in (int, float):
    raise InputError(f'{where}: it has no step or no train_loss')
  return record


def add_sample(path: str | Path, step: int, text: str) -> None:
  """Appends a sample to samples.txt, or raises InputError."""
  path = Path(path)
  with _write_errors(path), open_to_append(path) as file:
    file.write(f'--- step {step}\n{text}\n')


def cut_samples(path: str | Path, last_step: int) -> None:
  """Drops the samples after the checkpoint: their steps run again.

  Raises:
    InputError: the file cannot be read or replaced.
  """
  path = Path(path)
  if not path.is_file():
    return
  try:
    content = path.read_bytes()
  except OSError as error:
    raise InputError(f'{path}: {error.strerror}') from None
  titles = re.finditer(rb'^--- step (\d+)$', content, re.MULTILINE)
  late = (t.start() for t in titles if int(t[1][:20]) > last_step)
  with new_file(path) as scratch:
    scratch.write_bytes(content[: next(late, len(content))])


def watch(batches: Iterable, n: int) -> Iterable:
  """Shows the progress over `n` batches: a bar, or a line every 10 seconds."""
  interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
  return tqdm(batches, total=n, unit='batch', mininterval=interval)


# Prints a message of a run.
Say: TypeAlias = Callable[[str], None]


def say(text: str) -> None:
  """Prints a message at once, above the progress bar if there is one."""
  tqdm.write(text)
  sys.stdout.flush()


def say_nothing(text: str) -> None:
  """Prints nothing."""


class ProgressBar:
  """The progress of a run: a bar on a terminal, plain lines elsewhere."""

  def __init__(
    self, first_step: int, steps: int, say: Say = say, epochs: float = 0.0
  ):
    """Starts at `first_step`.

    Args:
      first_step: the step from which the run continues.
      steps: of the whole run.
      say: prints the lines.
      epochs: of the whole run, if its length is given in epochs; else 0.
    """
    self._steps = steps
    self._epochs = epochs
    self._started = time.monotonic()
    self._first_step = first_step
    self._line_due = 0.0
    self._say = say
    self._bar = tqdm(
      total=steps,
      initial=first_step,
      unit='step',
      dynamic_ncols=True,
      disable=say is say_nothing or not sys.stderr.isatty(),
    )

  def step(self, record: Record, important: bool = False) -> None:
    """Shows a step's metrics; `important` ones get a line of their own."""
    if not self._bar.disable:
      self._bar.set_postfix_str(_brief(record), refresh=False)
      self._bar.update(record['step'] - self._bar.n)
      if important:
        self._say(self._line(record))
    elif important or time.monotonic() >= self._line_due:
      self._say(self._line(record))
      self._line_due = time.monotonic() + _SECONDS_BETWEEN_LINES

  def close(self) -> None:
    """Ends the bar; it stays on the screen."""
    self._bar.close()

  def _line(self, record: Record) -> str:
    step = record['step']
    per_step = (time.monotonic() - self._started) / (step - self._first_step)
    left = f'{clock(per_step * (self._steps - step))} left'
    done = f'{self._epoch(record)}step {step}/{self._steps}'
    return f'{done}  {_brief(record)}  {left}'

  def _epoch(self, record: Record) -> str:
    """Returns the finished epochs, if the run's length is given in epochs."""
    if not self._epochs:
      return ''
    share = record['step'] / self._steps
    done = record.get('epoch', round(self._epochs * share, 2))
    return f'epoch {done:g}/{self._epochs:g}  '


def _brief(m: Record) -> str:
  loss = f'loss {m["train_loss"]:.4f}'
  if 'train_eval_loss' in m:
    accuracy = m['train_eval_accuracy']
    loss = f'train {m["train_eval_loss"]:.4f}  acc {accuracy:.3f}'
  if 'val_loss' in m:
    loss += f'  val {m["val_loss"]:.4f}  acc {m["val_accuracy"]:.3f}'
  return (
    f'{loss}  lr {m["learning_rate"]:.1e}  grad {m["grad_norm"]:.2f}  '
    f'{m["tokens_per_second"]:,.0f} tokens/s'
  )


def clock(seconds: float) -> str:
  """Formats a duration, as in 1:05 or 2:01:05."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02}:{seconds:02}'
  return f'{minutes}:{seconds:02}'


class RunLog:
  """Writes and shows the steps of a run, from a checkpoint on."""

  def __init__(
    self,
    workdir: str | Path,
    first_step: int,
    steps: int,
    writes: bool = True,
    say: Say = say,
    epochs: float = 0.0,
  ):
    """Opens the files, and drops the steps after `first_step` from them.

    Args:
      workdir: the folder of metrics.jsonl and samples.txt.
      first_step: the step of the checkpoint.
      steps: of the whole run.
      writes: False leaves the files to another process.
      say: prints a message.
      epochs: of the whole run, if its length is given in epochs; else 0.
    """
    path = Path(workdir)
    self._file = MetricsFile(path / 'metrics.jsonl', first_step, writes)
    self._bar = ProgressBar(first_step, steps, say, epochs)
    self.losses = self._file.losses
    if writes:
      cut_samples(path / 'samples.txt', first_step)

  def __enter__(self) -> 'RunLog':
    return self

  def __exit__(self, *_: Any) -> None:
    self._bar.close()
    self._file.close()

  def write(self, records: list[Record]) -> None:
    """Adds the records to metrics.jsonl, or raises InputError."""
    self._file.write(records)

  def show(self, record: Record) -> None:
    """Shows a step's metrics; an evaluation gets a line of its own."""
    self._bar.step(record, important='val_loss' in record)

  def sync(self) -> None:
    """Flushes metrics.jsonl to the disk; see `MetricsFile.sync`."""
    self._file.sync()
