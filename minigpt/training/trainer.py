"""A run as an object: it trains, evaluates, samples, and recovers."""

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from minigpt.checkpoints.checkpoint import Checkpoint
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import TrainConfig
from minigpt.data.batches import train_batches
from minigpt.data.training_data import TrainingData
from minigpt.errors import InputError
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request
from minigpt.runtime import malloc
from minigpt.runtime.signals import StopRequest
from minigpt.training import metrics, stability
from minigpt.training.metrics import Record, RunLog, Say, clock
from minigpt.training.run_state import RunState
from minigpt.training.single_worker import SingleWorker
from minigpt.training.stability import Broken, first_broken, first_nonfinite
from minigpt.training.step import Batch, compile_mode
from minigpt.training.validation import (
  Evaluation,
  compiled_eval_step,
  eval_batch_size,
  evaluate_batches,
)


@dataclass(frozen=True)
class Finished:
  """The run is at its last step, or no longer makes progress."""


@dataclass(frozen=True)
class Stopped:
  """A signal ended the run before its last step; all is saved."""

  signal: int


# How training from a checkpoint on may end. `Broken` sends the run back to the
# checkpoint before, from which it trains again, or fails.
Outcome: TypeAlias = Finished | Stopped | Broken
# Called with the run after each call of the train step, and the records of
# its steps.
Observer: TypeAlias = Callable[['Trainer', list[Record]], None]


def no_observer(trainer: 'Trainer', records: list[Record]) -> None:
  """Observes nothing."""


class Trainer(RunState):
  """A run while it trains; `run_setup.open_run` makes one.

  Attributes:
    data: what it trains on and is evaluated on.
    generator: continues prompts with the weights of the last step.
    train_steps, eval_step: the compiled programs.
    say: prints a message.
    epoch_steps: steps of an epoch, where the run is given in them; else 0.
  """

  def __init__(
    self,
    path: str | Path,
    config: RunConfig,
    data: TrainingData,
    workers: SingleWorker | None = None,
    say: Say = metrics.say,
  ):
    """Builds the model and its programs; `restore` gives it its weights.

    Args:
      path: the work directory.
      config: model and recipe.
      data: what it trains on.
      workers: this process among those of the run; None: it is alone.
      say: prints a message.
    """
    super().__init__(path, config, workers)
    self.data = data
    self.say = say
    self.epoch_steps = _epoch_steps(config.train, data.train.n_examples)
    self._first_step = 0  # where this process began
    self._make_programs()

  def _make_programs(self) -> None:
    """Makes what generates, trains and evaluates; compiled at first use."""
    config, recipe = self.config.model, self.config.train
    full = self.state.full_params(self.state.params)
    self.generator = Generator(
      full, config, self.data.tokenizer, recipe.compile
    )
    self.train_steps = self.workers.train_steps(self.state, config, recipe)
    self.eval_step = compiled_eval_step(
      full, config, recipe.compute_dtype, recipe.compile
    )

  # Training.

  def train(self, observe: Observer = no_observer) -> Finished | Stopped:
    """Trains from the state's step to the recipe's last.

    Args:
      observe: is called after each call of the train step.

    Raises:
      InputError: the numbers broke, or something could not be written.
    """
    notice = (
      'stopping after this step; the same again, a little later, leaves at once'
    )
    self._first_step = self.step
    if self._is_over():
      return Finished()
    with StopRequest(notice, self.checkpointer.finish) as stop:
      self._compile()
      outcome = self._advance(stop, observe)
      while isinstance(outcome, Broken):
        self._recover(outcome)
        outcome = self._advance(stop, observe)
    # No worker leaves while another still needs it.
    self.workers.barrier()
    return outcome

  def _advance(self, stop: StopRequest, observe: Observer) -> Outcome:
    """Trains from the state's step until something ends it."""
    recipe, is_chief = self.recipe, self.workers.is_chief
    early_end = None
    self.check_folder()
    log = RunLog(
      self.path, self.step, recipe.steps, is_chief, self.say, recipe.epochs
    )
    with log:
      for steps, windows in self._batches(recipe.steps):
        records = self._make_steps(steps, windows)
        broken = first_broken(records, log.losses, recipe.spike_guard)
        if broken:
          return broken
        records[-1] |= self._evaluate_if_due()
        self.check_folder()
        # A save that failed ends the run now, not at the next save.
        self.checkpointer.check()
        log.write(records)
        observe(self, records)
        log.show(records[-1])
        early_end = self._early_end(stop)
        if early_end or self._saves():
          # The checkpoint counts on the metrics up to its step.
          log.sync()
          self.save(records[-1])
        if early_end:
          break
        self._show_sample()
      self.checkpointer.wait()
    return early_end or Finished()

  def _early_end(self, stop: StopRequest) -> Finished | Stopped | None:
    """Tells what ends the run before its last step; None: it goes on."""
    # All workers stop after the same step, whichever heard the signal.
    signal = self.workers.reduce_max(stop.number)
    if signal:
      return Stopped(signal)
    return Finished() if self._gives_up() else None

  def _is_over(self) -> bool:
    """Tells whether there is nothing left to train.

    A run that has given up stays so when its command is repeated.
    """
    return self._gives_up() or self.step >= self.recipe.steps

  def _gives_up(self) -> bool:
    """Tells whether too many evaluations brought no progress, and says so."""
    n_worse, patience = self.history.n_worse, self.recipe.patience
    if not patience or n_worse < patience:
      return False
    self.say(f'no progress in {n_worse} evaluations: stopping')
    return True

  def _compile(self) -> None:
    """Compiles the train step by asking it for no steps at all."""
    recipe = self.recipe
    mode = compile_mode(recipe)
    self.say(f'compiling the training step (--compile={mode}) ...')
    started = time.monotonic()
    shape = [recipe.steps_per_call, recipe.grad_accum, recipe.batch_size]
    windows = self.data.train.at(np.zeros(shape, np.int64))
    self.train_steps(windows, np.int32(0))
    malloc.trim()
    self.say(f'compiled in {time.monotonic() - started:.1f} s')

  def _batches(self, last: int) -> Iterator[tuple[range, Batch]]:
    """Yields the steps from here to `last`, in calls, each with its windows."""
    recipe = self.recipe
    calls = plan_calls(
      self.step,
      last,
      recipe.steps_per_call,
      [
        recipe.eval_every,
        self.epoch_steps,
        recipe.sample_every,
        recipe.checkpoint_every,
      ],
    )
    batches = train_batches(
      self.data.train,
      (recipe.grad_accum, recipe.batch_size),
      recipe.seed,
      calls,
      recipe.steps_per_call,
      self.skipped,
    )
    return zip(calls, batches, strict=True)

  def _make_steps(self, steps: range, windows: Batch) -> list[Record]:
    """Makes the steps; returns a record of each."""
    started = time.monotonic()
    step_metrics = self.train_steps(windows, np.int32(len(steps)))
    loss, grad_norm, rate = (part.numpy() for part in step_metrics)
    seconds = (time.monotonic() - started) / len(steps)
    n_windows = self.recipe.grad_accum * self.recipe.batch_size
    n_tokens = n_windows * self.config.model.context_length
    return [
      {
        'step': step + 1,
        'train_loss': float(loss[i]),
        'learning_rate': float(rate[i]),
        'grad_norm': float(grad_norm[i]),
        'tokens_per_second': n_tokens / seconds,
      }
      for i, step in enumerate(steps)
    ]

  def _is_due(self, every: int | Fraction) -> bool:
    """Tells whether a multiple of `every` ends in the step, or the run does."""
    return self.step == self.recipe.steps or bool(
      every and self.step // every > (self.step - 1) // every
    )

  def _is_evaluated(self) -> bool:
    """Tells whether the step ends in an evaluation."""
    return self._is_due(self.recipe.eval_every) or self._is_due(
      self.epoch_steps
    )

  def _saves(self) -> bool:
    """Tells whether the step ends in a checkpoint."""
    every = self.recipe.checkpoint_every
    return self._is_due(every) if every else self._is_evaluated()

  # Numbers that break.

  def _recover(self, broken: Broken) -> None:
    """Restores the last checkpoint; the broken batch is not used again.

    Raises:
      InputError: what broke the numbers, where no guard is on or it cannot
        help.
    """
    record = broken.record
    batch = self.batch_number(record['step'] - 1)
    self.checkpointer.wait()
    self.restore()
    n_skipped = sum(number >= self.step for number in self.skipped)
    if not broken.can_skip or n_skipped == stability.MOST_SKIPPED:
      raise InputError(self._explain(record))
    if self.workers.is_chief:
      self.check_folder()
      stability.skip(self.path / 'skipped.json', record, batch)
    self.skipped.append(batch)
    self.say(
      f'the loss jumped to {record["train_loss"]:.4f} at step '
      f'{record["step"]}: back to step {self.step}, and on without batch '
      f'{batch}'
    )

  def _explain(self, record: Record) -> str:
    """Repeats the steps up to a broken one, which it looks into."""
    good, bad = self.step, record['step'] - 1
    self.say(
      f'the numbers broke at step {record["step"]}; making it again from step '
      f'{good} to see why'
    )
    for steps, windows in self._batches(bad):
      self.train_steps(windows, np.int32(len(steps)))
    [(_, windows)] = self._batches(bad + 1)
    first = tf.nest.map_structure(lambda part: part[0], windows)
    why = first_nonfinite(first, self.state, self.config.model, self.recipe)
    return (
      f'step {record["step"]}: loss {record["train_loss"]}, gradient norm '
      f'{record["grad_norm"]}, learning rate {record["learning_rate"]:.2e}; '
      f'{why}; nothing after step {good} was saved; try a lower '
      '--learning_rate, more --warmup_steps, a --grad_clip of 1, or '
      '--spike_guard=6'
    )

  # What the model can do by now.

  def evaluate(self) -> dict[str, float]:
    """Scores the validation part, and adds its loss to the history."""
    found = self._score(self.data.eval_batches)
    self.history = self.history.after(found.loss)
    return {'val_loss': found.loss, 'val_accuracy': found.accuracy}

  def evaluate_training(self) -> dict[str, float]:
    """Scores as much of the training part as `evaluate` does of validation.

    Without dropout and after the step, unlike the loss that the step reports.
    """
    found = self._score(self.data.train_eval_batches)
    return {
      'train_eval_loss': found.loss,
      'train_eval_accuracy': found.accuracy,
    }

  def _score(self, make_batches: Callable[..., Iterator]) -> Evaluation:
    """Scores what `make_batches` yields, together with the other workers."""
    recipe, context = self.recipe, self.config.model.context_length
    batches = make_batches(
      eval_batch_size(recipe.batch_size, context),
      context,
      recipe.eval_stride,
      recipe.eval_batches,
    )
    return evaluate_batches(
      self.eval_step, self.workers.shard(batches), self.workers.reduce_sum
    )

  def _evaluate_if_due(self) -> Record:
    """Returns what belongs into the record of the step, if it is evaluated."""
    found: Record = self.evaluate() if self._is_evaluated() else {}
    if self.epoch_steps and self._is_due(self.epoch_steps):
      is_last = self.step == self.recipe.steps
      n_epochs = (
        self.recipe.epochs if is_last else self.step // self.epoch_steps
      )
      found |= {'epoch': float(n_epochs), **self.evaluate_training()}
    return found

  def continuation(self) -> str:
    """Continues the first tokens of the validation part."""
    prompt = self.data.opening
    request = Request(seed=self.recipe.seed, stop=self.data.stop)
    [text] = self.generator([prompt], request)
    return prompt + text

  def sample(self) -> str:
    """Returns a continuation, which is added to samples.txt too."""
    text = self.continuation()
    self.check_folder()
    metrics.add_sample(self.path / 'samples.txt', self.step, text)
    return text

  def _show_sample(self) -> None:
    """Shows a sample where one is due; the last step has its own."""
    if (
      self.workers.is_chief
      and self.step < self.recipe.steps
      and self._is_due(self.recipe.sample_every)
    ):
      self.say(f'--- sample\n{self.sample()}\n---')

  def summary(self, seconds: float) -> str:
    """Returns the last sample, the best loss, and what to do.

    The sample is written too, unless the run had ended before and has done so.
    """
    is_new = self.step > self._first_step
    text = self.sample() if is_new else self.continuation()
    best = _describe_best(self.best_checkpoint())
    path = shlex.quote(str(self.path))
    return (
      f'--- sample\n{text}\n---\n'
      f'{self.step:,} steps in {clock(seconds)}; {best}\n'
      f'{self.path} holds metrics.jsonl, samples.txt and checkpoints; generate '
      f'more with\n  python -m minigpt generate --workdir={path} --prompt=...'
    )


def _describe_best(best: Checkpoint | None) -> str:
  loss = best.info.get('val_loss') if best else None
  if best is None or loss is None:
    return 'no checkpoint was evaluated'
  return f'best validation loss {loss:.4f} at step {best.step:,}'


def _epoch_steps(recipe: TrainConfig, n_examples: int) -> Fraction:
  """Returns the steps of an epoch, which need not be whole; 0: none is shown.

  Args:
    recipe: of the run; without `epochs` its epochs are not shown.
    n_examples: windows, or packed sequences, of an epoch.
  """
  per_step = recipe.batch_size * recipe.grad_accum
  return Fraction(n_examples if recipe.epochs else 0, per_step)


def save_interval(recipe: TrainConfig) -> int:
  """Returns the most steps between checkpoints; 0: only at the end."""
  epoch = math.ceil(recipe.steps / recipe.epochs) if recipe.epochs else 0
  intervals = [n for n in (recipe.eval_every, epoch) if n]
  return recipe.checkpoint_every or min(intervals, default=0)


def plan_calls(
  first: int, last: int, length: int, every: Sequence[int | Fraction]
) -> list[range]:
  """Splits steps into calls that end where something else is due.

  Args:
    first: the first step.
    last: the step after the last one.
    length: the most steps in a call.
    every: each call ends in the steps in which multiples of these end; 0 has
      none.
  """
  calls = []
  while first < last:
    due = [math.ceil(n * (first // n + 1)) for n in every if n]
    stop = min(first + length, last, *due)
    calls.append(range(first, stop))
    first = stop
  return calls
