"""Shows what a model makes of a prompt, as a page or a picture.

  python -m minigpt.commands.inspect --workdir=runs/s --prompt="ROMEO: But soft" \
    --output=report.html

The page holds attention maps, next-token probabilities, the logit lens and
each token's surprise. A .png, .svg or .pdf output holds the attention maps,
those of --layer and --head alone where they are given.
"""

from pathlib import Path

from absl import flags

from minigpt.runtime import startup  # First: it silences TensorFlow's import.

# isort: split
from minigpt.analysis import figures, html_report
from minigpt.analysis.introspection import inspect, label
from minigpt.checkpoints import loading
from minigpt.errors import UsageError
from minigpt.runtime import atomic_io

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'run, or GPT-2 in a published format'
)
_PROMPT = flags.DEFINE_string('prompt', None, 'text to read')
_OUTPUT = flags.DEFINE_string(
  'output', 'report.html', 'an .html page, or a .png, .svg or .pdf picture'
)
_LAYER = flags.DEFINE_integer('layer', None, 'only this layer, from 0')
_HEAD = flags.DEFINE_integer('head', None, 'only this head, from 0')


def main() -> None:
  if _WORKDIR.value is None or not _PROMPT.value:
    raise UsageError('give --workdir and --prompt')
  output = Path(_OUTPUT.value)
  if output.suffix not in ('.html', *figures.FORMATS):
    raise UsageError(
      f'output={output}: it must end in .html, {", ".join(figures.FORMATS)}'
    )
  config, weights, tokenizer = loading.load(Path(_WORKDIR.value))
  found = inspect(tokenizer.encode(_PROMPT.value), weights, config)
  if output.suffix == '.html':
    title = f'{_WORKDIR.value}: {_PROMPT.value}'
    atomic_io.write_text(output, html_report.render(found, tokenizer, title))
  else:
    labels = [label(int(i), tokenizer) for i in found.ids]
    layers = _chosen('layer', _LAYER.value, config.n_layers)
    heads = _chosen('head', _HEAD.value, config.n_heads)
    maps = figures.attention(found.attention, labels, layers, heads)
    figures.save(maps, output)
  print(output)


def _chosen(name: str, value: int | None, n: int) -> range:
  if value is None:
    return range(n)
  if not 0 <= value < n:
    raise UsageError(f'{name}={value}: the model has {n}, counted from 0')
  return range(value, value + 1)


if __name__ == '__main__':
  startup.run(main)
