"""Exports a trained model for TensorFlow Serving, or for other runtimes.

  python export.py --workdir=runs/s --export_dir=models/shakespeare

Writes the next version, models/shakespeare/1: a SavedModel that takes text and
returns text. docs/serving.md describes its signatures.

  python export.py --workdir=runs/s --export_dir=artifacts/s --format=stablehlo

Writes the model's functions of tokens as StableHLO, one for each batch size.
docs/performance.md tells how they are run.
"""

from pathlib import Path

from absl import flags

from minigpt.checkpoints.workdir import load_trained
from minigpt.errors import UsageError
from minigpt.kernels.quantize import STORED
from minigpt.runtime import startup
from minigpt.serving import versions
from minigpt.serving.export import (
  Options,
  export,
  export_stablehlo,
  summary,
)

_D = Options()
_WORKDIR = flags.DEFINE_string('workdir', None, 'run to export')
_EXPORT_DIR = flags.DEFINE_string(
  'export_dir', None, 'directory of the versions; its name is the model name'
)
_VERSION = flags.DEFINE_integer(
  'version', None, 'version to write (unless set: the next one)'
)
_KEEP_VERSIONS = flags.DEFINE_integer(
  'keep_versions', None, 'delete older versions; at least 2 stay'
)
_LIMIT = flags.DEFINE_integer(
  'max_new_tokens_limit', _D.max_new_tokens_limit, 'longest answer to allow'
)
_WEIGHTS = flags.DEFINE_string(
  'weights', _D.weights, f'how to store them: {", ".join(STORED)}'
)
_STOP = flags.DEFINE_multi_string('stop', [], 'text that ends every answer')
_BATCH_SIZES = flags.DEFINE_list(
  'batch_sizes',
  list(map(str, _D.batch_sizes)),
  'batch sizes for the server to form, and to warm up',
)
_EVAL_BATCHES = flags.DEFINE_integer(
  'eval_batches',
  _D.eval_batches,
  'batches that measure the cost of smaller weights; 0: all the text',
)
_SERVING_CONFIG = flags.DEFINE_bool(
  'serving_config', False, "write the server's configuration, show its command"
)
_XLA = flags.DEFINE_bool(
  'xla', False, 'also export a compiled twin, as another model: EXPORT_DIR-xla'
)
_ATTENTION = flags.DEFINE_bool(
  'attention', False, 'also export a signature that shows the attention weights'
)
_FORMAT = flags.DEFINE_enum(
  'format', 'savedmodel', ['savedmodel', 'stablehlo'], 'what to write'
)
_PROMPT = flags.DEFINE_integer(
  'prompt_length', 128, 'tokens that a StableHLO function reads'
)
_NEW = flags.DEFINE_integer(
  'new_tokens', 64, 'tokens that a StableHLO function writes'
)
# What one format knows and the other does not.
_OWN = {
  'savedmodel': (
    _VERSION,
    _KEEP_VERSIONS,
    _LIMIT,
    _STOP,
    _EVAL_BATCHES,
    _SERVING_CONFIG,
    _XLA,
    _ATTENTION,
  ),
  'stablehlo': (_PROMPT, _NEW),
}


def main() -> None:
  if _WORKDIR.value is None or _EXPORT_DIR.value is None:
    raise UsageError('give --workdir and --export_dir')
  for format, own in _OWN.items():
    for flag in own:
      if format != _FORMAT.value and flag.present:
        raise UsageError(f'--{flag.name} is for --format={format}')
  options = _options().check()
  versions.check_keep(_KEEP_VERSIONS.value)
  trained = load_trained(Path(_WORKDIR.value))
  base = Path(_EXPORT_DIR.value)
  if _FORMAT.value == 'stablehlo':
    export_stablehlo(trained, base, options, _PROMPT.value, _NEW.value)
    print(f'{base}: run it with benchmarks/pjrt.py')
    return
  _export(trained, base, options)
  if _XLA.value:
    twin = base.with_name(f'{base.name}-xla')
    _export(trained, twin, options._replace(xla=True))


def _options() -> Options:
  try:
    batch_sizes = tuple(map(int, _BATCH_SIZES.value))
  except ValueError:
    raise UsageError(
      f'batch_sizes={_BATCH_SIZES.value}: they must be integers'
    ) from None
  return Options(
    weights=_WEIGHTS.value,
    max_new_tokens_limit=_LIMIT.value,
    stop=tuple(_STOP.value),
    batch_sizes=batch_sizes,
    eval_batches=_EVAL_BATCHES.value,
    attention=_ATTENTION.value,
  )


def _export(trained, base, options) -> None:
  exported = export(
    trained, base, options, _VERSION.value, _KEEP_VERSIONS.value
  )
  print(summary(exported))
  if _SERVING_CONFIG.value:
    print(
      versions.write_serving_config(
        base, base.resolve().name, options.batch_sizes, options.xla
      )
    )


if __name__ == '__main__':
  startup.run(main)
