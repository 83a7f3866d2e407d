"""Measures how fast this machine trains, reads prompts and writes text.

  python -m minigpt.commands.bench --what=decode --preset=gpt2-124m

Random weights and random tokens; the first call, which compiles, and one more
are kept apart. The share of the roofline is the time that the counted work
would take at this machine's measured rates, over the time it took.
"""

import dataclasses
import json
from pathlib import Path

from absl import flags

from minigpt.runtime import startup  # First: it silences TensorFlow's import.

# isort: split
from minigpt.compiler import backend
from minigpt.config import (
  GPTConfig,
  TrainConfig,
  preset_values,
  settle,
)
from minigpt.errors import UsageError, unknown
from minigpt.kernels.quantize import WEIGHTS
from minigpt.profiling import timing as benchmarking
from minigpt.runtime.atomic_io import write_text
from minigpt.serving import stablehlo

_KINDS = ('train', 'prefill', 'decode', 'roofline')

_WHAT = flags.DEFINE_string('what', 'train', f'one of {", ".join(_KINDS)}')
_PRESET = flags.DEFINE_string('preset', 'gpt2-124m', 'model and its recipe')
_VOCAB = flags.DEFINE_integer('vocab_size', 50257, 'tokens the model knows')
_WEIGHTS = flags.DEFINE_string(
  'weights', 'float32', f'one of {", ".join(WEIGHTS)}; not for training'
)
_PROMPT = flags.DEFINE_integer('prompt_length', 128, 'tokens read before')
_NEW = flags.DEFINE_integer('new_tokens', 64, 'tokens decoded a row')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'calls that are timed')
_JSON = flags.DEFINE_string('json', None, 'file for the figures')
_STABLEHLO = flags.DEFINE_string(
  'stablehlo', None, 'time nothing: write what would run into this new folder'
)
_DEVICE = flags.DEFINE_string(
  'device', 'any', 'with --stablehlo, what is to run it: any, or cuda alone'
)
_EXPECTED = flags.DEFINE_bool(
  'expected', True, 'with --stablehlo: run it, too, and write what came out'
)
startup.define_flags(GPTConfig, TrainConfig)


def main() -> None:
  if _WHAT.value not in _KINDS:
    raise unknown('what', _WHAT.value, _KINDS)
  given = startup.given(GPTConfig, TrainConfig)
  settings = settle(preset_values(_PRESET.value, given))
  config = GPTConfig(**settings.model, vocab_size=_VOCAB.value)
  recipe = settings.train
  _check(config)
  trains = _WHAT.value == 'train'
  mode = backend.resolve_mode(recipe.compile, recipe.compute_dtype, trains)
  if _STABLEHLO.value:
    return _write(Path(_STABLEHLO.value), config, recipe)
  figures = _figures(config, recipe, mode)
  asked = {**_asked(config, recipe), 'compile': mode}
  for name, value in (asked | figures).items():
    shown = f'{value:,.4g}' if isinstance(value, float) else value
    print(f'{name:<22} {shown}')
  if _JSON.value:
    write_text(Path(_JSON.value), json.dumps(asked | figures) + '\n')


def _asked(config, recipe):
  return {
    'what': _WHAT.value,
    'preset': _PRESET.value,
    'batch_size': recipe.batch_size,
    'context_length': config.context_length,
    'compute_dtype': recipe.compute_dtype,
    'weights': _WEIGHTS.value,
  }


def _write(folder, config, recipe):
  if _WHAT.value == 'roofline':
    raise UsageError('--stablehlo: the roofline is measured here; give --what')
  # Only a function that is one XLA program can leave TensorFlow.
  recipe = dataclasses.replace(recipe, compile='xla')
  about = {
    'model': dataclasses.asdict(config),
    **_asked(config, recipe),
    'prompt_length': _PROMPT.value,
    'new_tokens': _NEW.value,
  }
  given = {_WHAT.value: _subject(config, recipe, 'xla').call}
  stablehlo.write(
    folder, given, about, _DEVICE.value, _EXPECTED.value, drawn=True
  )
  print(f'{folder}: run it with benchmarks/pjrt.py')


def _figures(config, recipe, mode):
  dtype, repeats = recipe.compute_dtype, _REPEATS.value
  if _WHAT.value == 'roofline':
    return benchmarking.roofline(dtype, repeats, _WEIGHTS.value)._asdict()
  subject = _subject(config, recipe, mode)
  timing = benchmarking.measure(subject.call, repeats)
  # After it, as large operands would count as the subject's memory.
  limits = benchmarking.roofline(dtype, repeats, _WEIGHTS.value)
  return benchmarking.result(subject, timing, limits)._asdict()


def _check(config):
  if _DEVICE.value not in backend.DEVICES:
    raise unknown('device', _DEVICE.value, backend.DEVICES)
  if _DEVICE.value != 'any' and not _STABLEHLO.value:
    raise UsageError(
      f'--device={_DEVICE.value}: this machine is what is timed; give '
      '--stablehlo to write what another is to run'
    )
  for flag in (_PROMPT, _NEW, _REPEATS):
    if flag.value < 1:
      raise UsageError(f'{flag.name}={flag.value}: it must be 1 or more')
  n = _PROMPT.value + (_NEW.value if _WHAT.value == 'decode' else 0)
  if _WHAT.value in ('prefill', 'decode') and n > config.context_length:
    raise UsageError(
      f'{n} tokens do not fit context_length={config.context_length}; lower '
      '--prompt_length or --new_tokens'
    )
  if _WHAT.value == 'train' and _WEIGHTS.value != 'float32':
    raise UsageError(
      f'--weights={_WEIGHTS.value} is for reading and writing text; training '
      'keeps float32 weights, so choose --compute_dtype'
    )


def _subject(config, recipe, mode):
  if _WHAT.value == 'train':
    return benchmarking.train(config, recipe)
  model = (config, _WEIGHTS.value, recipe.compute_dtype, mode)
  sizes = (recipe.batch_size, _PROMPT.value)
  if _WHAT.value == 'prefill':
    return benchmarking.prefill(*model, *sizes)
  return benchmarking.decode(*model, *sizes, _NEW.value)


if __name__ == '__main__':
  startup.run(main)
