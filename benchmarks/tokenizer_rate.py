"""How fast the graph of an export encodes, with GPT-2's vocabulary and another.

  python benchmarks/tokenizer_rate.py --text=a.txt --vocab_size=1024

Trains a vocabulary on the text, then encodes the text with both, in turns and
in batches of paragraphs, as a server would.
"""

import argparse
import statistics
import time
from pathlib import Path

import programs
import tensorflow as tf

from minigpt import tokenizers
from minigpt.data import sources


def encoder(tokenizer):
  """The twin as one function: string [B] -> the number of tokens."""
  twin = tokenizer.in_graph()

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
  def encode(text):
    return tf.size(twin.encode(text).flat_values)

  return encode


def seconds(encode, batches):
  started = time.perf_counter()
  for batch in batches:
    encode(batch).numpy()
  return time.perf_counter() - started


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--text', help='default: the Python sources of "stdlib"')
  parser.add_argument('--vocab_size', type=int, default=8192)
  parser.add_argument('--megabytes', type=float, default=1.0)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--json', help='file for the figures')
  options = parser.parse_args()
  text = Path(options.text).read_text('utf-8') if options.text else None
  text = text or sources.BUILT_IN['stdlib']()
  text = text[: int(options.megabytes * 1e6)]
  found = {
    'gpt2': tokenizers.build('gpt2', ''),
    'bpe': tokenizers.build('bpe', text, options.vocab_size),
  }
  encoders = {name: encoder(tokenizer) for name, tokenizer in found.items()}
  paragraphs = [part.encode() for part in text.split('\n\n')]
  batches = [
    tf.constant(paragraphs[i : i + 64]) for i in range(0, len(paragraphs), 64)
  ]
  times = {name: [] for name in found}
  for _ in range(options.rounds + 1):  # The first is to warm up.
    for name, encode in encoders.items():
      times[name].append(seconds(encode, batches))
  n = sum(map(len, paragraphs))
  rates = {name: [n / s / 1e6 for s in times[name][1:]] for name in found}
  for name, tokenizer in found.items():
    print(
      f'{name:<5} {tokenizer.vocab_size:>6,} tokens  '
      f'{statistics.median(rates[name]):.2f} MB/s ({min(rates[name]):.2f} to '
      f'{max(rates[name]):.2f})'
    )
  ratios = [
    a / b for a, b in zip(times['gpt2'][1:], times['bpe'][1:], strict=True)
  ]
  print(
    f'ratio of the rates, median of rounds: {statistics.median(ratios):.2f}'
  )
  sizes = {name: tokenizer.vocab_size for name, tokenizer in found.items()}
  programs.report(options.json, {'mb_per_s': rates, 'vocab_sizes': sizes})


if __name__ == '__main__':
  main()
