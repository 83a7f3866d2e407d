"""Measures how fast this machine trains, reads prompts and generates.

  python -m minigpt bench --what=decode --preset=gpt2-124m

Weights and tokens are random. The times leave out the first call, which
compiles, and one more. The share of the roofline is the time that the counted
operations or bytes would take at this machine's measured peak rates, divided by
the measured time; --plot draws both.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from minigpt.analysis import figures
from minigpt.commands.flags import bench as flags
from minigpt.compiler import backend
from minigpt.config import (
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.errors import UsageError, unknown
from minigpt.kernels.quantize import quantize
from minigpt.model.transformer import GPT
from minigpt.profiling import (
  machine,
  roofline,
  roofline_figure,
  timing,
  workloads,
)
from minigpt.profiling.roofline import Result, Roofline
from minigpt.profiling.workloads import Workload
from minigpt.runtime import app
from minigpt.runtime.atomic_io import check_writable, write_text
from minigpt.serving import stablehlo


def main() -> None:
  """Times one workload, or writes it as StableHLO for another program."""
  if flags.WHAT.value not in flags.KINDS:
    raise unknown('what', flags.WHAT.value, flags.KINDS)
  explicit = app.explicit_flags(flags.FLAGS, GPTConfig, TrainConfig)
  settings = resolve(preset_values(flags.PRESET.value, explicit))
  config = GPTConfig(**settings.model)
  recipe = settings.train
  _check(config)
  trains = flags.WHAT.value == 'train'
  mode = backend.resolve_mode(recipe.compile, recipe.compute_dtype, trains)
  if flags.STABLEHLO.value:
    return _write(Path(flags.STABLEHLO.value), config, recipe)
  measured = _measure(config, recipe, mode)
  results = {
    **_describe(config, recipe),
    'compile': mode,
    **measured._asdict(),
  }
  for name, value in results.items():
    shown = f'{value:,.4g}' if isinstance(value, float) else value
    if shown != '':
      print(f'{name:<22} {shown}')
  if flags.JSON.value:
    about = _about(config, recipe)
    write_text(flags.JSON.value, json.dumps({**results, **about}) + '\n')
  if flags.PLOT.value:
    [picture] = figures.save(_figure(measured, recipe), flags.PLOT.value)
    print(picture)


def _describe(config: GPTConfig, recipe: TrainConfig) -> dict[str, Any]:
  """Returns the settings that are shown with the results."""
  return {
    'what': flags.WHAT.value,
    'preset': flags.PRESET.value,
    'batch_size': recipe.batch_size,
    'context_length': config.context_length,
    'compute_dtype': recipe.compute_dtype,
    'weights': flags.WEIGHTS.value,
  }


def _about(config: GPTConfig, recipe: TrainConfig) -> dict[str, Any]:
  """Returns the further settings needed to repeat the measurement."""
  return {
    'shapes': {
      'batch_size': recipe.batch_size,
      'grad_accum': recipe.grad_accum,
      'steps_per_call': recipe.steps_per_call,
      'prompt_length': flags.PROMPT.value,
      'new_tokens': flags.NEW.value,
    },
    'model': dataclasses.asdict(config),
    'repeats': flags.REPEATS.value,
    **machine.about(),
  }


def _write(folder: Path, config: GPTConfig, recipe: TrainConfig) -> None:
  """Writes the workload as StableHLO, with its arguments and results."""
  if flags.WHAT.value == 'roofline':
    raise UsageError('--stablehlo: the roofline is measured here; give --what')
  # Only a function that is one XLA program can be exported.
  recipe = dataclasses.replace(recipe, compile='xla')
  about = {
    'model': dataclasses.asdict(config),
    **_describe(config, recipe),
    'prompt_length': flags.PROMPT.value,
    'new_tokens': flags.NEW.value,
  }
  work = {flags.WHAT.value: _workload(config, recipe, 'xla')}
  stablehlo.write(
    folder, work, about, flags.DEVICE.value, flags.EXPECTED.value, drawn=True
  )
  print(f'{folder}: run it with benchmarks/pjrt.py')


def _measure(
  config: GPTConfig, recipe: TrainConfig, mode: str
) -> Result | Roofline:
  """Times the workload, and compares it with the roofline."""
  dtype, repeats = recipe.compute_dtype, flags.REPEATS.value
  if flags.WHAT.value == 'roofline':
    return _roofline(dtype, repeats)
  workload = _workload(config, recipe, mode)
  timed = timing.measure(workload, repeats)
  # Measured after the workload, whose peak memory would else include the large
  # operands of this measurement.
  limits = _roofline(dtype, repeats)
  return roofline.compare(workload, timed, limits)


def _roofline(dtype: str, repeats: int) -> Roofline:
  """Measures this machine's peak rates with the weights of --weights."""
  return roofline.measure_roofline(dtype, repeats, flags.WEIGHTS.value)


def _figure(measured: Result | Roofline, recipe: TrainConfig) -> Any:
  """Draws the measurement beneath the roofline."""
  number = recipe.compute_dtype
  if flags.WEIGHTS.value != 'float32':
    number = f'{flags.WEIGHTS.value} weights, {number}'
  title = f'{machine.processor()}, {number}'
  name = f'{flags.WHAT.value} of {flags.PRESET.value}'
  return roofline_figure.draw(measured, name, title)


def _check_outputs() -> None:
  """Checks that the results can be written."""
  if flags.PLOT.value and flags.STABLEHLO.value:
    raise UsageError(
      '--plot: --stablehlo times nothing that could be drawn; give only one'
    )
  if flags.JSON.value:
    check_writable(flags.JSON.value)
  if flags.PLOT.value:
    figures.check_output('plot', flags.PLOT.value)


def _check(config: GPTConfig) -> None:
  """Raises UsageError for flags that make no sense together."""
  if flags.DEVICE.value not in backend.DEVICES:
    raise unknown('device', flags.DEVICE.value, backend.DEVICES)
  if flags.DEVICE.value != 'any' and not flags.STABLEHLO.value:
    raise UsageError(
      f'--device={flags.DEVICE.value}: this machine is what is timed; give '
      '--stablehlo to write programs for another'
    )
  for flag in (flags.PROMPT, flags.NEW, flags.REPEATS):
    if flag.value < 1:
      raise UsageError(f'{flag.name}={flag.value}: it must be 1 or more')
  n_new = flags.NEW.value if flags.WHAT.value == 'decode' else 0
  n = flags.PROMPT.value + n_new
  if flags.WHAT.value in ('prefill', 'decode') and n > config.context_length:
    raise UsageError(
      f'{n} tokens do not fit context_length={config.context_length}; lower '
      '--prompt_length or --new_tokens'
    )
  if flags.WHAT.value == 'train' and flags.WEIGHTS.value != 'float32':
    raise UsageError(
      f'--weights={flags.WEIGHTS.value} is for prefill and decode; training '
      'keeps float32 weights, so choose --compute_dtype'
    )
  _check_outputs()


def _workload(config: GPTConfig, recipe: TrainConfig, mode: str) -> Workload:
  """Returns the workload of --what, with random weights."""
  if flags.WHAT.value == 'train':
    return workloads.train(config, recipe)
  weights = GPT(config).params
  p = quantize(weights, flags.WEIGHTS.value, recipe.compute_dtype)
  sizes = (recipe.batch_size, flags.PROMPT.value)
  if flags.WHAT.value == 'prefill':
    return workloads.prefill(p, config, *sizes, mode)
  return workloads.decode(p, config, *sizes, flags.NEW.value, mode)
