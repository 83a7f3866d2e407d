"""Exports a trained run as a published version: graph, weights, model card."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from minigpt.checkpoints import workdir
from minigpt.checkpoints.loading import Trained
from minigpt.data import measured_text
from minigpt.errors import InputError, UsageError
from minigpt.generation.grammar import Grammar
from minigpt.kernels import digit_matmul, prepacked_matmul
from minigpt.kernels.quantize import quantize
from minigpt.model.params import Params
from minigpt.profiling import workloads
from minigpt.runtime.atomic_io import folder_size
from minigpt.serving import (
  model_card,
  server_config,
  stablehlo,
  versions,
  warmup,
)
from minigpt.serving.options import Options
from minigpt.serving.signatures import Server
from minigpt.tokenizers import Tokenizer
from minigpt.training.validation import compiled_eval_step, evaluate


class Exported(NamedTuple):
  """A version that was published."""

  path: Path  # the version directory
  card: dict[str, Any]


def export(
  trained: Trained,
  base: Path,
  options: Options,
  version: int | None = None,
  keep: int | None = None,
  report: Callable[[str], None] = print,
) -> Exported:
  """Publishes a run's best checkpoint as `base/<version>`.

  Args:
    version: see `versions.publish`.
    keep: see `versions.publish`.
    report: called with a message for each optional part that is left out.

  Raises:
    UsageError: an option is out of its range, or no server could read `base`.
    InputError: the version exists, or cannot be written; nothing of it is left
      behind.
  """
  options = _with_kernels(options.check())
  versions.check_base(base)
  versions.check_keep(keep)
  p = stored(trained.model.params, options)
  cost = loss_change(trained, p, options, report)
  card = {}

  def write(scratch: Path, number: int) -> None:
    about = {'name': base.resolve().name, 'version': number, **cost}
    card.update(_write(scratch, trained, p, options, about, report))

  path = versions.publish(base, write, version, keep)
  return Exported(path, card)


def _with_kernels(options):
  """Returns the options with their dtype chosen, or raises UsageError."""
  dtype = options.chosen_dtype(has_int8=digit_matmul.available)
  kernels = {'bfloat16': prepacked_matmul, 'int8': digit_matmul}
  if dtype in kernels and not kernels[dtype].available():
    raise UsageError(
      f'compute_dtype={dtype}: this TensorFlow lacks the kernels of oneDNN; '
      'export on x86, or leave it out'
    )
  return options._replace(compute_dtype=dtype)


def stored(p: Params, options: Options) -> Params:
  """Returns the parameters in the format of an export with these options."""
  if options.compute_dtype == 'int8':
    return digit_matmul.stored(p)
  return quantize(p, options.weights, exported=True, compiled=options.xla)


def export_stablehlo(
  trained: Trained,
  folder: Path,
  options: Options,
  prompt_length: int,
  new_tokens: int,
) -> None:
  """Writes functions of tokens for other runtimes; see `stablehlo`.

  For each batch size B, `score-B` computes the logits of the token after a
  prompt, and `greedy-B` the most likely tokens after it.

  Raises:
    UsageError: a size is out of its range.
    InputError: `folder` exists, or cannot be written.
  """
  config = trained.run.model
  for name, n in ('prompt_length', prompt_length), ('new_tokens', new_tokens):
    if n < 1:
      raise UsageError(f'{name}={n}: it must be 1 or more')
  if prompt_length + new_tokens > config.context_length:
    raise UsageError(
      f'prompt_length={prompt_length} and new_tokens={new_tokens}: together '
      f'they must fit context_length={config.context_length}'
    )
  p = quantize(trained.model.params, options.weights, exported=True)
  made = {}
  for n in options.batch_sizes:
    made[f'score-{n}'] = workloads.prefill(p, config, n, prompt_length)
    made[f'greedy-{n}'] = workloads.decode(
      p, config, n, prompt_length, new_tokens
    )
  about = {
    'model': dataclasses.asdict(config),
    'step': trained.checkpoint.step,
    'compute_dtype': 'float32',
    'weights': options.weights,
  }
  stablehlo.write(folder, made, about)


def _write(scratch, trained, p, options, about, report) -> dict[str, Any]:
  server = Server(
    p,
    trained.run.model,
    trained.tokenizer,
    options.max_new_tokens_limit,
    options.stop,
    options.xla,
    options.attention,
    options.compute_dtype,
    options.grammars,
  )
  signatures = server.signatures()
  # An export is never differentiated.
  plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
  tf.saved_model.save(server, str(scratch), signatures, plain)
  for name, content in trained.tokenizer.assets().items():
    (scratch / 'assets' / name).write_bytes(content)
  (scratch / server_config.BATCHING_FILE).write_text(
    server_config.batching_config(options.batch_sizes)
  )
  extra = scratch / 'assets.extra'
  extra.mkdir()
  try:
    name, prompt = about['name'], example(trained.tokenizer)
    least = server.least_tokens()
    warmup.write(extra, name, prompt, options.batch_sizes, least)
  except InputError as error:
    report(f'no warm-up requests: {error}')
  about |= {'bytes': folder_size(scratch), **options._asdict()}
  if options.compute_dtype in server_config.NEEDS:
    about['server'] = server_config.NEEDS[options.compute_dtype]
  about |= _listed(about.pop('grammars'), server.least_tokens())
  card = model_card.card(trained, signatures, **about)
  model_card.write(extra, card)
  return card


def _listed(
  grammars: Sequence[Grammar], least: Mapping[str, int]
) -> dict[str, Any]:
  """Returns the field `grammars` of the model card, if there are any."""
  found = {
    grammar.name: grammar.describe() | {'least_tokens': least[grammar.name]}
    for grammar in grammars
  }
  return {'grammars': found} if found else {}


def example(tokenizer: Tokenizer) -> str:
  """Returns a short text of tokens in the vocabulary."""
  return tokenizer.decode(range(min(4, tokenizer.vocab_size)))


def loss_change(
  trained: Trained,
  p: Params,
  options: Options,
  report: Callable[[str], None] = print,
) -> dict[str, float]:
  """Measures the loss of smaller weights, in nats per validation token.

  The result is empty for float32 weights, or if the run's text cannot be read.
  """
  if options.weights == 'float32':
    return {}
  config = trained.run.model
  # Matmuls in int8 round activations so little that float32 can stand for them.
  dtype = 'bfloat16' if options.compute_dtype == 'bfloat16' else 'float32'
  sides = (trained.model.params, 'float32'), (p, dtype)
  try:
    tokens = workdir.tokens(trained.path)
    val = measured_text.read(trained.run.data, trained.tokenizer, tokens).tokens
    losses = [
      evaluate(
        compiled_eval_step(each, config, dtype),
        val,
        config.context_length,
        batch_size=8,
        stride=trained.run.train.eval_stride,
        limit=options.eval_batches,
      ).loss
      for each, dtype in sides
    ]
  except (InputError, UsageError) as error:
    report(f'the cost of {options.weights} was not measured: {error}')
    return {}
  return {
    'float32_val_loss': losses[0],
    'exported_val_loss': losses[1],
    'val_loss_change': losses[1] - losses[0],
  }


def summary(exported: Exported) -> str:
  """Describes an export in a few lines."""
  path, card = exported
  full = 4 * card['parameters']
  lines = [
    f'{path}: {card["parameters"]:,} parameters in {card["weights"]}, '
    f'{card["bytes"] / 1e6:.1f} MB (float32 weights: {full / 1e6:.1f} MB)'
  ]
  if 'server' in card:
    lines.append(f'it needs a server of {card["server"]}')
  if 'val_loss_change' in card:
    lines.append(
      f'validation loss {card["float32_val_loss"]:.4f} -> '
      f'{card["exported_val_loss"]:.4f} ({card["val_loss_change"]:+.4f} nats)'
    )
  return '\n'.join(lines)
