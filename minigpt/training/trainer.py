"""The trainer: trains a run, evaluates, samples, and recovers from spikes."""

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
from minigpt.runtime.output import program
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
  """The run has made its last step, or `patience` has ended it."""


@dataclass(frozen=True)
class Stopped:
  """A signal stopped the run before its last step; the state is saved."""

  signal: int


# The ways in which training can end. After `Broken`, the run goes back to its
# last checkpoint and trains again without the batch, or fails.
Outcome: TypeAlias = Finished | Stopped | Broken
# Called after each call of the compiled program, with the trainer and the
# records of the steps that the call made.
Observer: TypeAlias = Callable[['Trainer', list[Record]], None]


def no_observer(trainer: 'Trainer', records: list[Record]) -> None:
  """Observes nothing."""


class Trainer(RunState):
  """Trains a run; `run_setup.open_run` makes a trainer.

  Attributes:
    data: training and validation data.
    generator: generates text with the current weights.
    train_steps, eval_step: the compiled programs.
    say: prints a message.
    epoch_steps: steps per epoch, if the run's length is in epochs; else 0.
  """

  def __init__(
    self,
    path: str | Path,
    config: RunConfig,
    data: TrainingData,
    workers: SingleWorker | None = None,
    say: Say = metrics.say,
  ):
    """Builds the model and its programs; `restore` loads the weights.

    Args:
      path: the work directory.
      config: model, data and recipe.
      data: training and validation data.
      workers: the workers of the run; None: this process alone.
      say: prints a message.
    """
    super().__init__(path, config, workers)
    self.data = data
    self.say = say
    self.epoch_steps = _epoch_steps(config.train, data.train.n_examples)
    self._first_step = 0  # the step at which `train` began
    self._make_programs()

  def _make_programs(self) -> None:
    """Makes the programs to generate, train and evaluate; compiles none yet."""
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
    """Trains from the current step to the last.

    Args:
      observe: called after each call of the compiled program.

    Raises:
      InputError: the loss or gradient broke, or a file cannot be written.
    """
    notice = (
      'stopping after this step and saving; a second signal, 2 s later or '
      'more, exits at once'
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
    # No worker may exit while another still needs it.
    self.workers.barrier()
    return outcome

  def _advance(self, stop: StopRequest, observe: Observer) -> Outcome:
    """Trains from the current step until something ends the run."""
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
        # Report a failed save now, not at the next save.
        self.checkpointer.check()
        log.write(records)
        observe(self, records)
        log.show(records[-1])
        early_end = self._early_end(stop)
        if early_end or self._saves():
          # A continued run needs the metrics up to the checkpoint's step.
          log.sync()
          self.save(records[-1])
        if early_end:
          break
        self._show_sample()
      self.checkpointer.wait()
    return early_end or Finished()

  def _early_end(self, stop: StopRequest) -> Finished | Stopped | None:
    """Returns what ends the run before its last step; None: nothing does."""
    # All workers stop after the same step, whichever received the signal.
    signal = self.workers.reduce_max(stop.number)
    if signal:
      return Stopped(signal)
    return Finished() if self._gives_up() else None

  def _is_over(self) -> bool:
    """Tells whether there is nothing left to train.

    A run that `patience` has ended stays ended when it is opened again.
    """
    return self._gives_up() or self.step >= self.recipe.steps

  def _gives_up(self) -> bool:
    """Tells whether `patience` ends the run, and prints so."""
    n_worse, patience = self.history.n_worse, self.recipe.patience
    if not patience or n_worse < patience:
      return False
    self.say(f'no progress in {n_worse} evaluations: stopping')
    return True

  def _compile(self) -> None:
    """Compiles the training step by calling it for 0 steps."""
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
    """Yields the steps before `last`, by call, with the call's windows."""
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
    """Makes the steps; returns their records."""
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
    """Tells whether a multiple of `every`, or the run, ends with this step."""
    return self.step == self.recipe.steps or bool(
      every and self.step // every > (self.step - 1) // every
    )

  def _is_evaluated(self) -> bool:
    """Tells whether the model is evaluated after this step."""
    return self._is_due(self.recipe.eval_every) or self._is_due(
      self.epoch_steps
    )

  def _saves(self) -> bool:
    """Tells whether a checkpoint is saved after this step."""
    every = self.recipe.checkpoint_every
    return self._is_due(every) if every else self._is_evaluated()

  # Recovery from spikes and values that are not finite.

  def _recover(self, broken: Broken) -> None:
    """Restores the last checkpoint, and skips the broken step's batch from now.

    Raises:
      InputError: the guard is off or cannot help; the message says the cause.
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
      f'{record["step"]}: continuing from step {self.step} without batch '
      f'{batch}'
    )

  def _explain(self, record: Record) -> str:
    """Repeats the steps up to the broken one, and finds its cause."""
    good, bad = self.step, record['step'] - 1
    self.say(
      f'the loss or gradient broke at step {record["step"]}; repeating from '
      f'step {good} to find the cause'
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

  # Evaluation and samples.

  def evaluate(self) -> dict[str, float]:
    """Scores the validation part, and adds its loss to the history."""
    found = self._score(self.data.eval_batches)
    self.history = self.history.after(found.loss)
    return {'val_loss': found.loss, 'val_accuracy': found.accuracy}

  def evaluate_training(self) -> dict[str, float]:
    """Scores as many training batches as `evaluate` scores validation batches.

    Unlike the loss that a step reports, this is without dropout and after the
    update.
    """
    found = self._score(self.data.train_eval_batches)
    return {
      'train_eval_loss': found.loss,
      'train_eval_accuracy': found.accuracy,
    }

  def _score(self, make_batches: Callable[..., Iterator]) -> Evaluation:
    """Scores the batches, shared among the workers."""
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
    """Evaluates if it is due; returns the results for the step's record."""
    found: Record = self.evaluate() if self._is_evaluated() else {}
    if self.epoch_steps and self._is_due(self.epoch_steps):
      is_last = self.step == self.recipe.steps
      n_epochs = (
        self.recipe.epochs if is_last else self.step // self.epoch_steps
      )
      found |= {'epoch': float(n_epochs), **self.evaluate_training()}
    return found

  def continuation(self) -> str:
    """Generates text after the first tokens of the validation part."""
    prompt = self.data.opening
    request = Request(seed=self.recipe.seed, stop=self.data.stop)
    [text] = self.generator([prompt], request)
    return prompt + text

  def sample(self) -> str:
    """Returns a continuation, and appends it to samples.txt."""
    text = self.continuation()
    self.check_folder()
    metrics.add_sample(self.path / 'samples.txt', self.step, text)
    return text

  def _show_sample(self) -> None:
    """Shows a sample if it is due; `summary` shows that of the last step."""
    if (
      self.workers.is_chief
      and self.step < self.recipe.steps
      and self._is_due(self.recipe.sample_every)
    ):
      self.say(f'--- sample\n{self.sample()}\n---')

  def summary(self, seconds: float) -> str:
    """Returns a report: a sample, the best loss, and the command to generate.

    The sample is appended to samples.txt, if this process made any step.
    """
    is_new = self.step > self._first_step
    text = self.sample() if is_new else self.continuation()
    best = _describe_best(self.best_checkpoint())
    path = shlex.quote(str(self.path))
    return (
      f'--- sample\n{text}\n---\n'
      f'{self.step:,} steps in {clock(seconds)}; {best}\n'
      f'{self.path} holds metrics.jsonl, samples.txt and checkpoints; generate '
      f'more with\n  {program()} generate --workdir={path} --prompt=...'
    )


def _describe_best(best: Checkpoint | None) -> str:
  loss = best.info.get('val_loss') if best else None
  if best is None or loss is None:
    return 'no checkpoint was evaluated'
  return f'best validation loss {loss:.4f} at step {best.step:,}'


def _epoch_steps(recipe: TrainConfig, n_examples: int) -> Fraction:
  """Returns the steps of an epoch, a fraction; 0 if the length is in steps.

  Args:
    recipe: of the run.
    n_examples: windows, or packed sequences, of an epoch.
  """
  per_step = recipe.batch_size * recipe.grad_accum
  return Fraction(n_examples if recipe.epochs else 0, per_step)


def save_interval(recipe: TrainConfig) -> int:
  """Returns the most steps between checkpoints; 0: one at the end only."""
  epoch = math.ceil(recipe.steps / recipe.epochs) if recipe.epochs else 0
  intervals = [n for n in (recipe.eval_every, epoch) if n]
  return recipe.checkpoint_every or min(intervals, default=0)


def plan_calls(
  first: int, last: int, length: int, every: Sequence[int | Fraction]
) -> list[range]:
  """Splits steps into calls that end where an evaluation or the like is due.

  Args:
    first: the first step.
    last: the step after the last one.
    length: the most steps in a call.
    every: intervals; a call ends wherever a multiple of one ends. 0 stands for
      no interval.
  """
  calls = []
  while first < last:
    due = [math.ceil(n * (first // n + 1)) for n in every if n]
    stop = min(first + length, last, *due)
    calls.append(range(first, stop))
    first = stop
  return calls
