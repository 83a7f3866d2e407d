r"""Shows a model's attention and predictions on a prompt, as page or figure.

  python -m minigpt inspect --workdir=runs/s --prompt="ROMEO: But soft" \
    --output=report.html

The page shows attention maps, next-token probabilities, the logit lens, each
token's loss, the norm of the residual stream and the curves of the run, and
explains what to look for. A .png, .svg or .pdf output shows only the attention
maps, of all layers and heads or of --layer and --head.
"""

from pathlib import Path

from minigpt.analysis import figures, html_report
from minigpt.analysis.introspection import inspect, label
from minigpt.checkpoints import loading
from minigpt.commands.flags import inspect as flags
from minigpt.errors import UsageError
from minigpt.runtime import atomic_io
from minigpt.tokenizers import encode_prompt
from minigpt.training.metrics import read_metrics


def main() -> None:
  """Runs the model on a prompt, and writes the page or the figure."""
  if flags.WORKDIR.value is None or flags.PROMPT.value is None:
    raise UsageError('give --workdir and --prompt')
  output = Path(flags.OUTPUT.value)
  if output.suffix not in ('.html', *figures.FORMATS):
    raise UsageError(
      f'output={output}: it must end in .html, {", ".join(figures.FORMATS)}'
    )
  if output.suffix == '.html':
    atomic_io.check_writable(output)
  else:
    figures.check_output('output', output)
  config, weights, tokenizer, _ = loading.load(flags.WORKDIR.value)
  ids = encode_prompt(tokenizer, flags.PROMPT.value)
  found = inspect(ids, weights, config)
  if output.suffix == '.html':
    title = f'{flags.WORKDIR.value}: {flags.PROMPT.value}'
    metrics = read_metrics(Path(flags.WORKDIR.value) / 'metrics.jsonl')
    page = html_report.render(found, tokenizer, title, metrics)
    atomic_io.write_text(output, page)
  else:
    labels = [label(int(i), tokenizer) for i in found.ids]
    layers = _chosen('layer', flags.LAYER.value, config.n_layers)
    heads = _chosen('head', flags.HEAD.value, config.n_heads)
    maps = figures.attention(found.attention, labels, layers, heads)
    figures.save(maps, output)
  print(output)


def _chosen(name: str, value: int | None, n: int) -> range:
  """Returns the layers or heads to show: one of `n`, or all for None."""
  if value is None:
    return range(n)
  if not 0 <= value < n:
    raise UsageError(f'{name}={value}: the model has {n}, counted from 0')
  return range(value, value + 1)
