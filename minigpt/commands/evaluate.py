r"""Measures a model: perplexity, multiple choice, last words, pairs.

  python -m minigpt evaluate --workdir=runs/s
  python -m minigpt evaluate --workdir=runs/s --dataset=book.txt --stride=32
  python -m minigpt evaluate --workdir=downloads/gpt2 --task=choice \
    --dataset=hellaswag_val.jsonl --json

Tasks: `text` (perplexity and bits per byte of running text; without --dataset
the run's own validation part), `choice` (HellaSwag's JSONL), `last_word`
(LAMBADA's), `pairs` (prompts and completions). The results are also added to
evaluations.jsonl in the directory of the model.

--plot draws the results: for `text`, the loss by the number of tokens before;
for the other tasks, the newest accuracy of each in evaluations.jsonl, with its
confidence interval.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from minigpt.analysis import (
  evaluation_figures,
  figures,
  perplexity,
  tasks,
)
from minigpt.analysis.perplexity import PositionSums
from minigpt.checkpoints import workdir
from minigpt.checkpoints.loading import LoadedModel, load
from minigpt.commands.flags import evaluate as flags
from minigpt.config import DataConfig
from minigpt.data import jsonl, measured_text
from minigpt.data.measured_text import MeasuredText
from minigpt.data.windows import check_ids
from minigpt.errors import InputError, UsageError
from minigpt.runtime.atomic_io import open_to_append
from minigpt.training.metrics import watch

# For each task on examples: a function that reads a file, and one that measures
# a model on it.
_EXAMPLES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
  'choice': (jsonl.read_choices, tasks.multiple_choice),
  'last_word': (jsonl.read_last_words, tasks.last_word),
  'pairs': (jsonl.read_pairs, tasks.exact_match),
}


def main() -> None:
  """Measures a model, prints the results and records them."""
  if flags.WORKDIR.value is None:
    raise UsageError('--workdir is missing; say which model to measure')
  if flags.LIMIT.value < 0:
    raise UsageError(f'limit={flags.LIMIT.value}: it must be 0 or more')
  if flags.PLOT.value:
    figures.check_output('plot', flags.PLOT.value)
  path = Path(flags.WORKDIR.value)
  model = load(path)
  # Variables, as XLA would copy arrays into each of its programs.
  weights = tf.nest.map_structure(tf.Variable, model.weights)
  model = model._replace(weights=weights)
  measure = _measure_text if flags.TASK.value == 'text' else _measure_examples
  measured, sums = measure(model)
  results = _describe(model) | measured
  if flags.JSON.value:
    print(json.dumps(results))
  else:
    for name, value in results.items():
      print(f'{name:<22} {_readable(value)}')
  file = path / 'evaluations.jsonl'
  _record(file, results)
  if flags.PLOT.value:
    [picture] = figures.save(_figure(results, sums, file), flags.PLOT.value)
    if not flags.JSON.value:
      print(picture)


def _describe(model: LoadedModel) -> dict[str, Any]:
  """Returns the model and the data, to be recorded with the results."""
  trained = model.trained
  return {
    'checkpoint': trained.checkpoint.path.name if trained else None,
    'task': flags.TASK.value,
    'dataset': flags.DATASET.value,
    'limit': flags.LIMIT.value,
  }


# The results; for a text with --plot, also the sums by position.
_Measured: TypeAlias = tuple[dict[str, Any], PositionSums | None]


def _measure_text(model: LoadedModel) -> _Measured:
  """Measures perplexity on running text."""
  window = flags.WINDOW.value or model.config.context_length
  stride = _stride(model, window)
  if not 0 < window <= model.config.context_length:
    raise UsageError(
      f'window={window}: the model can look back on '
      f'{model.config.context_length} tokens'
    )
  if not 0 < stride <= window:
    raise UsageError(f'stride={stride}: it must lie in [1, {window}]')
  tokens, n_bytes = _read_text(model)
  arguments = model, tokens, window, stride, watch, n_bytes
  shape = {'window': window, 'stride': stride}
  if not flags.PLOT.value:
    return shape | perplexity.evaluate_text(*arguments), None
  found, sums = perplexity.evaluate_positions(*arguments)
  return shape | found, sums


def _stride(model: LoadedModel, window: int) -> int:
  """Returns --stride, or the stride of the run's own evaluations."""
  if flags.STRIDE.value is not None:
    return flags.STRIDE.value or window
  recipe = model.trained.run.train if model.trained else None
  return min(recipe.eval_stride if recipe else 0, window) or window


def _read_text(model: LoadedModel) -> MeasuredText:
  """Reads the text of --dataset, or the validation part of the run."""
  cache = None
  if flags.DATASET.value is not None:
    config = DataConfig(dataset=flags.DATASET.value, val_fraction=0)
  elif model.trained is None or not model.trained.run.data.dataset:
    raise UsageError(
      f'{flags.WORKDIR.value} has no text of its own: give --dataset'
    )
  else:
    config = model.trained.run.data
    cache = workdir.tokens(model.trained.path)
  if jsonl.holds_pairs(config.dataset):
    raise UsageError(f'{config.dataset}: give --task and --dataset')
  text = measured_text.read(config, model.tokenizer, cache, flags.LIMIT.value)
  if len(text.tokens) < 2:
    raise InputError(
      f'{flags.DATASET.value or "the validation part"} has fewer than 2 tokens '
      'to measure'
    )
  check_ids(text.tokens, model.config.vocab_size)
  return text


def _measure_examples(model: LoadedModel) -> _Measured:
  """Measures a task on the examples of --dataset."""
  if flags.DATASET.value is None:
    raise UsageError(
      f'--task={flags.TASK.value} needs a --dataset of JSON lines'
    )
  read, measure = _EXAMPLES[flags.TASK.value]
  examples = read(flags.DATASET.value)[: flags.LIMIT.value or None]
  return measure(model, examples, watch), None


def _readable(value: Any) -> str:
  if value is None:
    return '-'
  return f'{value:.4f}' if isinstance(value, float) else str(value)


def _figure(
  results: dict[str, Any], sums: PositionSums | None, file: Path
) -> Any:
  """Draws a text's loss by position, or the accuracies recorded in `file`."""
  if sums:
    text = flags.DATASET.value or 'its validation part'
    title = f'{flags.WORKDIR.value} on {text}'
    return evaluation_figures.loss_by_position(sums, title)
  recorded = evaluation_figures.newest(file, results['checkpoint'])
  return evaluation_figures.accuracies(recorded, f'{flags.WORKDIR.value}')


def _record(file: Path, results: dict[str, Any]) -> None:
  """Adds a line to evaluations.jsonl, or raises InputError."""
  try:
    with open_to_append(file) as lines:
      lines.write(json.dumps(results) + '\n')
      lines.flush()
      # Some file systems report a full disk or quota only at fsync.
      os.fsync(lines.fileno())
  except OSError as error:
    raise InputError(
      f'{file} could not be written ({error.strerror}); the results above are '
      'not recorded'
    ) from None
