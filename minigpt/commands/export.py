r"""Exports a model for TensorFlow Serving, or for other runtimes.

  python -m minigpt export --workdir=runs/s --export_dir=models/shakespeare

Writes the next version, models/shakespeare/1: a SavedModel that takes text and
returns text. docs/serving.md describes its signatures.

  python -m minigpt export --workdir=runs/s --export_dir=artifacts/s \
    --format=stablehlo

Writes the model's functions of tokens as StableHLO, one for each batch size.
docs/performance.md tells how they are run.
"""

from pathlib import Path

from minigpt.checkpoints.loading import load_trained
from minigpt.commands.flags import export as flags
from minigpt.errors import UsageError
from minigpt.serving import versions
from minigpt.serving.export import (
  Options,
  export,
  export_stablehlo,
  summary,
)

# What one format knows and the other does not.
_OWN = {
  'savedmodel': (
    flags.VERSION,
    flags.KEEP_VERSIONS,
    flags.LIMIT,
    flags.STOP,
    flags.EVAL_BATCHES,
    flags.SERVING_CONFIG,
    flags.XLA,
    flags.ATTENTION,
  ),
  'stablehlo': (flags.PROMPT, flags.NEW),
}


def main() -> None:
  if flags.WORKDIR.value is None or flags.EXPORT_DIR.value is None:
    raise UsageError('give --workdir and --export_dir')
  for format, own in _OWN.items():
    for flag in own:
      if format != flags.FORMAT.value and flag.present:
        raise UsageError(f'--{flag.name} is for --format={format}')
  options = _options().check()
  versions.check_keep(flags.KEEP_VERSIONS.value)
  trained = load_trained(Path(flags.WORKDIR.value))
  base = Path(flags.EXPORT_DIR.value)
  if flags.FORMAT.value == 'stablehlo':
    export_stablehlo(
      trained, base, options, flags.PROMPT.value, flags.NEW.value
    )
    print(f'{base}: run it with benchmarks/pjrt.py')
    return
  _export(trained, base, options)
  if flags.XLA.value:
    twin = base.with_name(f'{base.name}-xla')
    _export(trained, twin, options._replace(xla=True))


def _options() -> Options:
  try:
    batch_sizes = tuple(map(int, flags.BATCH_SIZES.value))
  except ValueError:
    raise UsageError(
      f'batch_sizes={flags.BATCH_SIZES.value}: they must be integers'
    ) from None
  return Options(
    weights=flags.WEIGHTS.value,
    max_new_tokens_limit=flags.LIMIT.value,
    stop=tuple(flags.STOP.value),
    batch_sizes=batch_sizes,
    eval_batches=flags.EVAL_BATCHES.value,
    attention=flags.ATTENTION.value,
  )


def _export(trained, base, options) -> None:
  exported = export(
    trained, base, options, flags.VERSION.value, flags.KEEP_VERSIONS.value
  )
  print(summary(exported))
  if flags.SERVING_CONFIG.value:
    print(
      versions.write_serving_config(
        base, base.resolve().name, options.batch_sizes, options.xla
      )
    )
