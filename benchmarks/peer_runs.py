"""Starts programs that write figures: minigpt and its peers.

Knows nothing of TensorFlow, so that pjrt.py can be where that is not.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_PEERS = Path(__file__).resolve().parent / 'peers'

# Each peer's program, and what it is told.
PEERS = {
  'transformers': ('transformers_gpt2.py',),
  'transformers-compile': ('transformers_gpt2.py', '--compile'),
  'keras-hub': ('keras_hub_gpt2.py',),
  'keras-hub-jit': ('keras_hub_gpt2.py', '--compile'),
  'jax': ('jax_gpt2.py',),
  'ctranslate2': ('ctranslate2_gpt2.py',),
  'openvino': ('openvino_gpt2.py',),
  'llama.cpp': ('llama_cpp_gpt2.py',),
}


def peer(python: str | None, name: str, **options: Any) -> list[str]:
  """The command of a peer.

  Args:
    python: the interpreter of the peers' environment; None: this one.
    options: flags of peers/harness.py.
  """
  program, *told = PEERS[name]
  flags = [f'--{key}={value}' for key, value in options.items()]
  return [python or sys.executable, str(_PEERS / program), *told, *flags]


def figures(command: Sequence[str]) -> dict[str, Any] | str:
  """What a program wrote into its --json; the reason where it did not."""
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, 'figures.json')
    try:
      subprocess.run(
        [*command, f'--json={file}'],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        env=environment(),
      )
      return json.loads(file.read_text())
    except OSError as error:
      return str(error)
    except subprocess.CalledProcessError as error:
      return (error.stderr.strip().splitlines() or [str(error)])[-1]


def environment() -> dict[str, str]:
  """Returns that of a program that finds minigpt in this checkout."""
  path = [str(_PEERS.parents[1]), os.environ.get('PYTHONPATH', '')]
  return {
    **os.environ,
    'PYTHONPATH': os.pathsep.join(filter(None, path)),
    # The peers look for no model and no news beyond this machine.
    'HF_HUB_OFFLINE': '1',
    'TF_CPP_MIN_LOG_LEVEL': '2',
  }


_HEADER = (
  f'{"":<21} {"weights":<9} {"tokens/s":>9} {"compile s":>9} '
  f'{"peak MiB":>9} {"to best":>8} {"of all":>7}'
)


def table(
  found: dict[tuple[str, str], list[dict[str, Any]] | str],
) -> Iterator[str]:
  """Yields lines of figures, with ratios to the best peer.

  A ratio is the median over the rounds: to the best peer with such weights, and
  to the best of all.

  Args:
    found: by name and weights, the figures of each round, or why it has none.
  """
  rates = {
    key: [run['tokens_per_s'] for run in made]
    for key, made in found.items()
    if isinstance(made, list)
  }
  peers = [key for key in rates if not key[0].startswith('minigpt')]

  def ratio(key, others):
    if not others:
      return '-'
    best = map(max, zip(*(rates[other] for other in others), strict=True))
    ratios = map(float.__truediv__, rates[key], best)
    return f'{statistics.median(ratios):.2f}x'

  yield _HEADER
  for key, made in found.items():
    name, weights = key
    if isinstance(made, str):
      yield f'{name:<21} {weights:<9} skipped: {made}'
      continue
    rate, compile_s, peak = (
      statistics.median(run[column] for run in made)
      for column in ('tokens_per_s', 'compile_s', 'peak_mib')
    )
    alike = [peer for peer in peers if peer[1] == weights]
    yield (
      f'{name:<21} {weights:<9} {rate:>9,.1f} {compile_s:>9.1f} {peak:>9,.0f} '
      f'{ratio(key, alike):>8} {ratio(key, peers):>7}'
    )
