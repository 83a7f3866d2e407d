"""One run from start to end: its data, its loop, and what it leaves."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.analysis import figures
from minigpt.checkpoints import checkpoint, loading, workdir
from minigpt.checkpoints.async_checkpointer import AsyncCheckpointer
from minigpt.checkpoints.loading import LoadedModel
from minigpt.checkpoints.workdir import RunConfig
from minigpt.config import GPTConfig, Settings, TrainConfig
from minigpt.data.batches import batch_numbers, eval_batches, train_batches
from minigpt.data.sequence_packing import PackedExamples, packed_eval_batches
from minigpt.data.token_shards import Tokens
from minigpt.data.training_data import read_training_data
from minigpt.data.windows import Fingerprint, Windows
from minigpt.errors import InputError
from minigpt.generation.generator import Completer, Request
from minigpt.model import lora
from minigpt.model.params import specs
from minigpt.model.transformer import GPT
from minigpt.runtime import malloc
from minigpt.runtime.signals import StopRequest
from minigpt.tokenizers import Tokenizer
from minigpt.training import memory_estimate, stability
from minigpt.training.diagnosis import culprit
from minigpt.training.distribution import ALONE, Alone, Workers
from minigpt.training.metrics import MetricsFile, Progress, clock, cut_samples
from minigpt.training.step import (
  TrainState,
  compile_mode,
  compiled_eval_step,
  evaluate_batches,
)
from minigpt.training.summary import summary


class Prepared(NamedTuple):
  """A run with its text read and tokenized."""

  run: RunConfig
  tokenizer: Tokenizer
  windows: Windows | PackedExamples
  val: Tokens | PackedExamples
  fingerprint: Fingerprint
  opening: str  # what samples continue
  stop: tuple[str, ...] = ()  # what ends them


def prepare(settings: Settings, tokenizer: Tokenizer | None = None) -> Prepared:
  """Reads the text and settles what depends on it: vocabulary and length.

  Args:
    tokenizer: that of the run which is continued; None builds one.
  """
  context_length = GPTConfig(**settings.model).context_length
  data = read_training_data(settings.data, context_length, tokenizer)
  model = GPTConfig(
    **{'vocab_size': data.tokenizer.vocab_size, **settings.model}
  )
  recipe = _with_steps(settings.train, data.train.n_examples)
  run = RunConfig(model, settings.data, recipe)
  _memory_line(run)  # Refuses what cannot fit before anything is written.
  return Prepared(run, *data)


def _with_steps(recipe: TrainConfig, n_windows: int) -> TrainConfig:
  """Settles the length of a run that was given in epochs."""
  if not recipe.epochs:
    return recipe
  per_step = recipe.batch_size * recipe.grad_accum
  steps = math.ceil(recipe.epochs * n_windows / per_step)
  return dataclasses.replace(recipe, steps=steps)


def describe(prepared: Prepared, p) -> str:
  run, windows, val = prepared.run, prepared.windows, prepared.val
  n_val = val.n_tokens if isinstance(val, PackedExamples) else len(val)
  return (
    f'{summary(p, run.model)}\n{_describe_adapters(run)}'
    f'{windows.n_tokens:,} training tokens in {windows.n_examples:,} windows, '
    f'{n_val:,} validation tokens, '
    f'vocabulary {run.model.vocab_size:,} ({prepared.tokenizer.name})\n'
    f'{run.train.steps:,} steps of {run.train.batch_size} x '
    f'{run.train.grad_accum} windows of {run.model.context_length} tokens '
    f'in {run.train.compute_dtype}'
    f'{_memory_line(run)}'
  )


def _describe_adapters(run: RunConfig) -> str:
  rank = run.train.lora_rank
  if not rank:
    return ''
  n = sum(
    rank * sum(layer.w.shape)
    for block in specs(run.model).blocks
    for layer in (*block.attn, *block.mlp)
  )
  return f'{"adapters, all that trains":<20} rank {rank:<13} {n:>13,}\n'


def _memory_line(run: RunConfig) -> str:
  if tf.config.list_physical_devices('GPU'):
    return ''  # Its memory is what counts, and TensorFlow's to tell.
  return '\n' + memory_estimate.check(
    run.model, run.train, memory_estimate.available()
  )


def plan_calls(first: int, last: int, length: int, every: list[int]):
  """Cuts steps `first` to `last` into ranges of at most `length` that end at
  each multiple of each number in `every` (0: no such stops)."""
  calls = []
  while first < last:
    stops = [first + length, last, *(n * (first // n + 1) for n in every if n)]
    calls.append(range(first, min(stops)))
    first = min(stops)
  return calls


class Fit:
  """The state of a run while it trains."""

  def __init__(
    self, path: Path, prepared: Prepared, workers: Alone | Workers = ALONE
  ):
    self.path = path
    self.workers = workers
    self.prepared = prepared
    self.run = prepared.run
    self.model = GPT(self.run.model, self.run.train.seed)
    recipe = self.run.train
    self.state = _state(self.model, recipe)
    self.checkpoint = self.state.checkpoint()
    whole = self.state.whole(self.state.params)
    self.completer = Completer(
      whole, self.run.model, prepared.tokenizer, recipe.compile
    )
    self.train_steps = workers.train_steps(self.state, self.run.model, recipe)
    self.eval_step = compiled_eval_step(
      whole, self.run.model, recipe.compute_dtype, recipe.compile
    )
    self.saver = AsyncCheckpointer(
      workdir.checkpoints(path), recipe.keep_checkpoints
    )
    self.skipped = [
      s['batch'] for s in stability.skipped(path / 'skipped.json')
    ]
    self.start = None  # Checksum of the weights beside adapters.
    self.best_loss = math.inf
    self.n_worse = 0  # Evaluations since the best one.

  @property
  def step(self) -> int:
    return int(self.state.step.numpy())

  def restore(
    self, start: LoadedModel | None = None
  ) -> list[checkpoint.Damage]:
    """Goes to the newest whole checkpoint; without one, to the first step.

    Args:
      start: the model of `init_from`, where it has been read already.

    Returns:
      Newer ones that are damaged, renamed out of the way.
    """
    damages = self._read_newest(start) if self.workers.is_chief else []
    self.workers.share(self.state)
    standing = np.array([self.best_loss, self.n_worse], np.float64)
    self.best_loss, n_worse = self.workers.from_chief(standing).tolist()
    self.n_worse = int(n_worse)
    return damages

  def _read_newest(self, start: LoadedModel | None) -> list[checkpoint.Damage]:
    folder = workdir.checkpoints(self.path)
    self._load_start(start)
    found, damages = checkpoint.restore_newest(folder, self.checkpoint)
    if found:
      self.best_loss = found.info['best_loss']
      self.n_worse = found.info['n_worse']
    elif self.step:
      self._start_over()
    return [d._replace(path=checkpoint.set_aside(d)) for d in damages]

  def _load_start(self, start: LoadedModel | None = None) -> None:
    """Reads the weights of `init_from`, where no checkpoint holds them."""
    recipe = self.run.train
    found = checkpoint.list_checkpoints(workdir.checkpoints(self.path))
    if recipe.init_from and (recipe.lora_rank or not found):
      wanted = found[-1].info.get('start') if found else None
      weights, self.start = loading.load_start(self.run, wanted, start)
      loading.assign(self.model.params, weights)

  def _start_over(self) -> None:
    recipe = self.run.train
    first = _state(GPT(self.run.model, recipe.seed), recipe)
    tf.nest.map_structure(
      lambda old, new: old.assign(new), self.state.parts(), first.parts()
    )
    self._load_start()
    self.best_loss, self.n_worse = math.inf, 0

  def batch_number(self, step: int) -> int:
    return int(batch_numbers(np.array([step]), self.skipped)[0])

  def save(self, metrics: dict[str, Any]) -> None:
    """Starts a checkpoint; `saver.wait` tells when it is there."""
    if not self.workers.is_chief:
      return
    info = {
      'val_loss': metrics.get('val_loss'),
      'best_loss': self.best_loss,
      'n_worse': self.n_worse,
      'start': self.start if self.run.train.lora_rank else None,
    }
    self.saver.save(self.step, self.state.parts(), info)

  def evaluate(self) -> dict[str, float]:
    """Scores the validation part and keeps count of the progress."""
    batches = self.workers.share_of(self._eval_batches())
    found = evaluate_batches(self.eval_step, batches, self.workers.total)
    better = found.loss < self.best_loss
    self.n_worse = 0 if better else self.n_worse + 1
    self.best_loss = min(self.best_loss, found.loss)
    return {'val_loss': found.loss, 'val_accuracy': found.accuracy}

  def _eval_batches(self):
    recipe, context = self.run.train, self.run.model.context_length
    val = self.prepared.val
    size = eval_batch_size(recipe.batch_size, context)
    if isinstance(val, PackedExamples):
      return packed_eval_batches(val, size, recipe.eval_batches)
    return eval_batches(
      val, context, size, recipe.eval_stride, recipe.eval_batches
    )

  def continuation(self) -> str:
    """Continues the first tokens of the validation part."""
    prompt = self.prepared.opening
    request = Request(seed=self.run.train.seed, stop=self.prepared.stop)
    [text] = self.completer([prompt], request)
    return prompt + text

  def sample(self) -> str:
    """A continuation, written to samples.txt too."""
    text = self.continuation()
    with open(self.path / 'samples.txt', 'a', encoding='utf-8') as file:
      file.write(f'--- step {self.step}\n{text}\n')
    return text

  def is_due(self, every: int) -> bool:
    return self.step == self.run.train.steps or bool(
      every and self.step % every == 0
    )


def _state(model: GPT, recipe: TrainConfig) -> TrainState:
  if not recipe.lora_rank:
    return TrainState(model)
  adapters = lora.init_adapters(model.config, recipe.lora_rank, recipe.seed)
  return TrainState(model, adapters, recipe.adapter_scale)


def eval_batch_size(batch_size: int, context_length: int) -> int:
  """Evaluation keeps no activations, so small batches can be larger."""
  return max(batch_size, 4096 // context_length)


# Called with the run after each call of the train step, and the records of
# its steps.
Observer = Callable[[Fit, list[dict[str, Any]]], None]


def no_observer(fit_: Fit, records: list[dict[str, Any]]) -> None:
  pass


def fit(fit_: Fit, observe: Observer = no_observer) -> int:
  """Trains from the state's step to the recipe's last.

  Returns:
    The number of the signal that stopped it before, all saved; otherwise 0.
  """
  with StopRequest('stopping after this step; again to leave at once') as stop:
    _compile(fit_)
    while (stopped_by := _run(fit_, stop, observe)) is None:
      pass
  fit_.workers.agree(0)  # None leaves while another still needs it.
  return stopped_by


def _run(fit_: Fit, stop: StopRequest, observe: Observer) -> int | None:
  """Trains until the run ends, and returns the number of the signal that
  ended it, or 0; None where it went back to a checkpoint."""
  recipe, first = fit_.run.train, fit_.step
  progress = Progress(first, recipe.steps)
  is_chief = fit_.workers.is_chief
  metrics_file = MetricsFile(fit_.path / 'metrics.jsonl', first, is_chief)
  if is_chief:
    cut_samples(fit_.path / 'samples.txt', first)
  losses, signal = metrics_file.losses, 0
  try:
    for steps, windows in _batches(fit_, recipe.steps):
      records = _call(fit_, steps, windows)
      fault = _first_fault(records, losses, recipe.spike_guard)
      if fault:
        _go_back(fit_, fault, len(losses) >= stability.WINDOW)
        return None
      if fit_.is_due(recipe.eval_every):
        records[-1] |= fit_.evaluate()
      metrics_file.write(records)
      observe(fit_, records)
      progress.step(records[-1], important='val_loss' in records[-1])
      signal = fit_.workers.agree(stop.number)
      ends = signal or _gives_up(fit_, progress)
      if ends or fit_.is_due(save_interval(recipe)):
        metrics_file.sync()
        fit_.save(records[-1])
      if ends:
        break
      # The sample after the last step is that of `finish`.
      if (
        is_chief
        and fit_.step < recipe.steps
        and fit_.is_due(recipe.sample_every)
      ):
        progress.say(f'--- sample\n{fit_.sample()}\n---')
    fit_.saver.wait()
  finally:
    progress.close()
    metrics_file.close()
  return signal


def _first_fault(records: list[dict], losses: list[float], width: float):
  """The first record that is a spike or not finite; None where none is."""
  losses = list(losses)
  for record in records:
    if stability.is_spike(record, losses, width) or not stability.is_finite(
      record
    ):
      return record
    losses.append(record['train_loss'])
  return None


def _go_back(fit_: Fit, fault: dict, is_guarded: bool) -> None:
  """Restores the last checkpoint; the batch at fault is not used again.

  Raises:
    InputError: what broke the numbers, where no guard is on or it cannot help.
  """
  batch = fit_.batch_number(fault['step'] - 1)
  fit_.saver.wait()
  fit_.restore()
  n_skipped = sum(number >= fit_.step for number in fit_.skipped)
  if (
    not fit_.run.train.spike_guard
    or not is_guarded
    or n_skipped == stability.MOST_SKIPPED
  ):
    raise InputError(_explained(fit_, fault))
  if fit_.workers.is_chief:
    stability.skip(fit_.path / 'skipped.json', fault, batch)
  fit_.skipped.append(batch)
  print(
    f'the loss jumped to {fault["train_loss"]:.4f} at step {fault["step"]}: '
    f'back to step {fit_.step}, and on without batch {batch}',
    flush=True,
  )


def _explained(fit_: Fit, fault: dict) -> str:
  """Makes the steps up to the fault again, and that one piece by piece."""
  good, bad = fit_.step, fault['step'] - 1
  print(
    f'the numbers broke at step {fault["step"]}; making it again from step '
    f'{good} to see why',
    flush=True,
  )
  for steps, windows in _batches(fit_, bad):
    fit_.train_steps(windows, np.int32(len(steps)))
  [(_, windows)] = _batches(fit_, bad + 1)
  first = tf.nest.map_structure(lambda part: part[0], windows)
  why = culprit(first, fit_.state, fit_.run.model, fit_.run.train)
  return (
    f'step {fault["step"]}: loss {fault["train_loss"]}, gradient norm '
    f'{fault["grad_norm"]}, learning rate {fault["learning_rate"]:.2e}; {why}; '
    f'nothing after step {good} was saved; try a lower --learning_rate, more '
    '--warmup_steps, a --grad_clip of 1, or --spike_guard=6'
  )


def save_interval(recipe: TrainConfig) -> int:
  return recipe.checkpoint_every or recipe.eval_every


def _batches(fit_: Fit, last: int) -> Iterator[tuple[range, np.ndarray]]:
  """The steps from here to `last`, in calls, each with its windows."""
  recipe = fit_.run.train
  calls = plan_calls(
    fit_.step,
    last,
    recipe.steps_per_call,
    [recipe.eval_every, recipe.sample_every, save_interval(recipe)],
  )
  batches = train_batches(
    fit_.prepared.windows,
    (recipe.grad_accum, recipe.batch_size),
    recipe.seed,
    calls,
    recipe.steps_per_call,
    fit_.skipped,
  )
  return zip(calls, batches, strict=True)


def _gives_up(fit_: Fit, progress: Progress) -> bool:
  patience = fit_.run.train.patience
  if not patience or fit_.n_worse < patience:
    return False
  progress.say(f'no progress in {fit_.n_worse} evaluations: stopping')
  return True


def _compile(fit_: Fit) -> None:
  """Compiles the train step by asking it for no steps at all."""
  recipe = fit_.run.train
  mode = compile_mode(recipe)
  print(f'compiling the training step (--compile={mode}) ...', flush=True)
  started = time.monotonic()
  shape = [recipe.steps_per_call, recipe.grad_accum, recipe.batch_size]
  windows = fit_.prepared.windows.at(np.zeros(shape, np.int64))
  fit_.train_steps(windows, np.int32(0))
  malloc.trim()
  print(f'compiled in {time.monotonic() - started:.1f} s', flush=True)


def _call(fit_: Fit, steps: range, windows: Any) -> list[dict]:
  """Makes the steps; returns a record of each."""
  started = time.monotonic()
  metrics = fit_.train_steps(windows, np.int32(len(steps)))
  loss, grad_norm, rate = (part.numpy() for part in metrics)
  seconds = (time.monotonic() - started) / len(steps)
  recipe = fit_.run.train
  n_windows = recipe.grad_accum * recipe.batch_size
  n_tokens = n_windows * fit_.run.model.context_length
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


def finish(fit_: Fit, seconds: float) -> str:
  """Writes the last sample and the picture; returns the closing words."""
  text = fit_.sample()
  if figures.can_draw():
    figures.save(figures.losses([fit_.path]), fit_.path / 'loss')
  found = checkpoint.list_checkpoints(workdir.checkpoints(fit_.path))
  best = checkpoint.best(found)
  return (
    f'--- sample\n{text}\n---\n'
    f'{fit_.step:,} steps in {clock(seconds)}; best validation loss '
    f'{best.info["val_loss"]:.4f} at step {best.step:,}\n'
    f'{fit_.path} holds metrics.jsonl, samples.txt and checkpoints; write '
    'more with\n'
    f'  python -m minigpt generate --workdir={fit_.path} --prompt=...'
  )
