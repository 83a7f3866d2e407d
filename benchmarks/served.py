"""Times an unmodified server's path for each format of weights, in turns.

  python benchmarks/served.py --formats float32 compute-bfloat16 int8 --rounds 3

Exports GPT-2 with random weights, loads each export in a process of its own as
TensorFlow Serving does, without XLA, and asks `generate_ids` for tokens after a
short prompt, of one and of eight rows, and for one token after a long prompt.
A format is one of --weights, but compute-bfloat16, which is what `export
--compute_dtype=bfloat16` writes, and int8-in-float32, `--weights=int8
--compute_dtype=float32`.
--xla adds the same model in one XLA program, as `minigpt generate` runs it.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import programs
import tensorflow as tf

from minigpt.config import GPTConfig, preset_values, resolve
from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.generation.request import Request
from minigpt.kernels.quantize import quantize
from minigpt.model.params import Params
from minigpt.model.transformer import GPT
from minigpt.profiling import workloads
from minigpt.runtime import app, startup
from minigpt.serving import export as exporting
from minigpt.serving.options import Options
from minigpt.serving.sampling_inputs import sampling_inputs
from minigpt.serving.signatures import Server
from minigpt.tokenizers.char import CharTokenizer

# Formats that take --compute_dtype; others are of --weights.
PACKED = 'compute-bfloat16'
CAST = 'int8-in-float32'


def options(weights: str) -> Options:
  """Returns how `export` is asked for a format."""
  named = {
    PACKED: Options(compute_dtype='bfloat16'),
    CAST: Options(weights='int8', compute_dtype='float32'),
  }
  asked = named.get(weights, Options(weights=weights)).check()
  return asked._replace(compute_dtype=asked.chosen_dtype(has_int8=lambda: True))


def stored(gpt: GPT, weights: str) -> Params:
  """Returns the weights as an export keeps them."""
  return exporting.stored(gpt.params, options(weights))


def write(folder: Path, gpt: GPT, config: GPTConfig, weights: str, n_new: int):
  """Writes the signatures of an export, without its warm-up and its card."""
  dtype = options(weights).compute_dtype
  # Any vocabulary of the size will do, and this one needs no file.
  tokenizer = CharTokenizer(''.join(map(chr, range(config.vocab_size))))
  p = stored(gpt, weights)
  server = Server(p, config, tokenizer, n_new, compute_dtype=dtype)
  tf.saved_model.save(server, str(folder), signatures=server.signatures())


@contextlib.contextmanager
def exports(
  args: argparse.Namespace,
) -> Iterator[tuple[GPT, GPTConfig, dict[str, Path]]]:
  """Writes a random model in each format; deletes the folders at the end."""
  settings = resolve(preset_values(args.preset, {}))
  config = GPTConfig(**settings.model, vocab_size=args.vocab_size)
  gpt = GPT(config)
  with tempfile.TemporaryDirectory() as scratch:
    folders = {weights: Path(scratch, weights) for weights in args.formats}
    for weights, folder in folders.items():
      write(folder, gpt, config, weights, args.new_tokens)
    yield gpt, config, folders


class Served:
  """An export in a process without XLA."""

  def __init__(self, folder: Path, config: GPTConfig):
    self._endpoint = IsolatedProcess(folder)
    self._vocab_size = config.vocab_size

  def seconds(self, n_rows: int, n_prompt: int, n_new: int) -> float:
    """Times one call for `n_new` tokens after each prompt."""
    rng = np.random.default_rng(0)
    ids = rng.integers(self._vocab_size, size=[n_rows, n_prompt])
    inputs = {
      'ids': ids.astype(np.int32),
      'prompt_len': np.full([n_rows], n_prompt, np.int32),
      **sampling_inputs(Request(n_new, temperature=0.0), n_rows),
    }
    started = time.perf_counter()
    self._endpoint.predict('generate_ids', inputs)
    return time.perf_counter() - started

  def close(self) -> None:
    """Ends the process."""
    self._endpoint.close()


class OneProgram:
  """The same model in one XLA program."""

  def __init__(self, gpt: GPT, config: GPTConfig, n_new: int):
    self._p, self._config = quantize(gpt.params, 'float32'), config
    self._n_new = n_new
    self._work: dict[tuple[int, int], workloads.Workload] = {}

  def seconds(self, n_rows: int, n_prompt: int, n_new: int) -> float:
    """Times one call for `n_new` tokens after each prompt."""
    work = self._work.get((n_rows, n_prompt))
    if not work:
      work = self._work[n_rows, n_prompt] = workloads.decode(
        self._p, self._config, n_rows, n_prompt, self._n_new
      )
      work()
    started = time.perf_counter()
    work(n=tf.constant(n_new)).numpy()
    return time.perf_counter() - started

  def close(self) -> None:
    """Does nothing: the programs end with this process."""


def measure(sides, args) -> dict[str, dict[str, float]]:
  """Returns the median rates of each side, by the name of the work."""
  short, n_new = args.prompt_length, args.new_tokens

  def decode(side, n_rows):
    # The first token comes with the prompt.
    first = side.seconds(n_rows, short, 1)
    return n_rows * (n_new - 1) / (side.seconds(n_rows, short, n_new) - first)

  def prefill(side):
    return args.long_prompt / side.seconds(1, args.long_prompt, 1)

  work = {
    'batch 1': lambda side: decode(side, 1),
    'batch 8': lambda side: decode(side, 8),
    'prefill': prefill,
  }
  rates = {name: {kind: [] for kind in work} for name in sides}
  for turn in range(args.rounds + 1):
    for kind, run in work.items():
      for name, side in sides.items():
        rate = run(side)
        if turn:  # The first sets everything up.
          rates[name][kind].append(rate)
  return {
    name: {kind: statistics.median(of) for kind, of in row.items()}
    for name, row in rates.items()
  }


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--preset', default='gpt2-124m')
  parser.add_argument('--vocab_size', type=int, default=50257)
  parser.add_argument('--formats', nargs='+', default=['float32', 'int8'])
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--prompt_length', type=int, default=128)
  parser.add_argument('--new_tokens', type=int, default=65)
  parser.add_argument('--long_prompt', type=int, default=512)
  parser.add_argument('--xla', action='store_true')
  parser.add_argument('--json', help='file for the figures')
  return parser.parse_args()


def main() -> int:
  startup.configure()
  args = parse()
  with contextlib.ExitStack() as stack:
    gpt, config, folders = stack.enter_context(exports(args))
    sides: dict[str, Served | OneProgram] = {
      weights: Served(folder, config) for weights, folder in folders.items()
    }
    if args.xla:
      sides['one XLA program'] = OneProgram(gpt, config, args.new_tokens)
    for side in sides.values():
      stack.callback(side.close)
    rates = measure(sides, args)
  print(
    f'{"tokens/s":<16}', *(f'{kind:>10}' for kind in rates[args.formats[0]])
  )
  for name, row in rates.items():
    print(f'{name:<16}', *(f'{rate:10,.1f}' for rate in row.values()))
  programs.report(args.json, {'tokens_per_s': rates})
  return 0


if __name__ == '__main__':
  raise SystemExit(app.exit_code(main))
