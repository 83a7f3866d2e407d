r"""Exports a model for TensorFlow Serving, or for other runtimes.

  python -m minigpt export --workdir=runs/s --export_dir=models/shakespeare

Writes the next version, models/shakespeare/1: a SavedModel that takes text and
returns text. docs/reference/signatures.md has its signatures.

  python -m minigpt export --workdir=runs/s --export_dir=artifacts/s \
    --format=stablehlo

Writes the model as functions of token ids in StableHLO, one for each batch
size. benchmarks/README.md says how to run them.
"""

from pathlib import Path

from minigpt.checkpoints.loading import Trained, load_trained
from minigpt.commands.flags import export as flags
from minigpt.errors import UsageError
from minigpt.generation import grammar
from minigpt.serving import server_config, versions
from minigpt.serving.export import export, export_stablehlo, summary
from minigpt.serving.options import Options

# Flags that only one format supports.
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
    flags.COMPUTE_DTYPE,
    flags.GRAMMAR,
  ),
  'stablehlo': (flags.PROMPT, flags.NEW),
}


def main() -> None:
  """Exports the best checkpoint of a run in one of the formats."""
  if flags.WORKDIR.value is None or flags.EXPORT_DIR.value is None:
    raise UsageError('give --workdir and --export_dir')
  _check_formats()
  options = _options().check()
  versions.check_keep(flags.KEEP_VERSIONS.value)
  base = _named(Path(flags.EXPORT_DIR.value))
  if flags.FORMAT.value == 'savedmodel':
    versions.check_base(base)
  trained = load_trained(Path(flags.WORKDIR.value))
  if flags.FORMAT.value == 'stablehlo':
    export_stablehlo(
      trained, base, options, flags.PROMPT.value, flags.NEW.value
    )
    print(f'{base}: run it with benchmarks/pjrt.py')
    return
  _export(trained, base, options._replace(xla=False))
  if flags.XLA.value:
    # Exported as another model: clients choose it by name, and its server needs
    # an option of its own.
    twin = base.with_name(f'{base.name}-xla')
    _export(trained, twin, options)


def _named(base: Path) -> Path:
  """Returns the folder by a path that ends with the model's name."""
  named = base.resolve() if base.name in ('', '..') else base
  # Bytes of a path that are not UTF-8 become surrogates, which UTF-8 lacks.
  if not named.name.encode('utf-8', 'ignore').decode() == named.name != '':
    raise UsageError(
      f'export_dir={str(base)!r}: it must end with a name in UTF-8, which '
      'becomes that of the model'
    )
  return named


def _check_formats() -> None:
  """Raises UsageError for a flag that only the other format supports."""
  for name, own in _OWN.items():
    for flag in own:
      if name != flags.FORMAT.value and flag.present:
        raise UsageError(f'--{flag.name} is for --format={name}')


def _options() -> Options:
  """Returns the options of the SavedModel's export, not yet checked."""
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
    compute_dtype=flags.COMPUTE_DTYPE.value,
    xla=flags.XLA.value,
    grammars=grammar.read_all(flags.GRAMMAR.value),
  )


def _export(trained: Trained, base: Path, options: Options) -> None:
  """Writes one version; prints a summary and the command to serve it."""
  exported = export(
    trained, base, options, flags.VERSION.value, flags.KEEP_VERSIONS.value
  )
  print(summary(exported))
  if flags.SERVING_CONFIG.value:
    command = server_config.write_serving_config(
      base, base.resolve().name, options.batch_sizes, options.xla
    )
    print(f'with Docker, TensorFlow Serving serves it by\n{command}')
