"""What own text takes: seconds, memory, bits per byte.

  python benchmarks/own_text.py vocabulary --megabytes=100
  python benchmarks/own_text.py large --megabytes=2000
  python benchmarks/own_text.py bits

`vocabulary` trains byte pairs on made-up text. `large` prepares such text as
characters and starts a run on it, twice each, as it also does on the text
itself and, for comparison, on little of it. `bits` trains the same model of
Tiny Shakespeare on characters and on byte pairs for about the same time.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import made_text
import programs

# A step that costs nothing, so that all else of a start is seen.
_ONE_STEP = [
  *('--steps=1', '--compile=graph', '--n_layers=1', '--emb_dim=32'),
  *('--n_heads=2', '--context_length=32', '--batch_size=4', '--eval_every=0'),
  *('--eval_batches=1', '--sample_every=0'),
]
_LITTLE = 3_000_000  # Bytes.
# Runs of about the same time: the larger table of tokens costs the rest.
_BITS = {
  'characters': ['--steps=200'],
  'byte pairs': ['--steps=170', '--tokenizer=bpe', '--vocab_size=1024'],
}


def vocabulary(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
  """Trains a vocabulary."""
  made_text.write(folder / 'text.txt', args.megabytes * 1_000_000)
  taken = programs.minigpt(
    'tokenizer',
    f'--input={folder}/text.txt',
    f'--vocab_size={args.vocab_size}',
    f'--output={folder}/tokenizer.json',
  )
  return {f'a vocabulary of {args.vocab_size:,}': taken._asdict()}


def large(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
  """Prepares text and starts on it, from tokens and from the text itself."""
  text, tokens = folder / 'text.txt', folder / 'tokens'
  made_text.write(folder / 'little.txt', _LITTLE)
  made_text.write(text, args.megabytes * 1_000_000)
  found = {
    'prepare it': programs.minigpt(
      'prepare', f'--input={text}', f'--output={tokens}', '--tokenizer=char'
    ),
    'the first start on the tokens': _start(folder / 'a', tokens),
    'the second': _start(folder / 'b', tokens),
    'the first start on the text itself': _start(folder / 'c', text),
    'the second, of the same run': _start(folder / 'c', text),
    'a start on 3 MB of it': _start(folder / 'd', folder / 'little.txt'),
  }
  return {name: taken._asdict() for name, taken in found.items()}


def _start(workdir: Path, dataset: Path) -> programs.Taken:
  where = f'--workdir={workdir}', f'--dataset={dataset}'
  return programs.minigpt('train', *where, '--tokenizer=char', *_ONE_STEP)


def bits(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
  """Trains and evaluates a model for each kind of token."""
  found = {}
  for name, flags in _BITS.items():
    workdir = folder / name
    taken = programs.minigpt(
      'train',
      '--preset=shakespeare-char-fast',
      f'--dataset={args.dataset}',
      f'--workdir={workdir}',
      *flags,
    )
    programs.minigpt('evaluate', f'--workdir={workdir}', '--stride=32')
    line = (workdir / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1]
    per_byte = json.loads(line)['bits_per_byte']
    found[name] = {'seconds': taken.seconds, 'bits_per_byte': per_byte}
  return found


_WORK = {work.__name__: work for work in (vocabulary, large, bits)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('what', choices=_WORK)
  parser.add_argument('--megabytes', type=int, default=100, help='of the text')
  parser.add_argument('--vocab_size', type=int, default=8192)
  parser.add_argument('--dataset', default='tiny_shakespeare', help='of bits')
  parser.add_argument('--json', help='file for the figures')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    found = _WORK[args.what](Path(folder), args)
  for name, row in found.items():
    shown = ', '.join(f'{key} {value:,.3f}' for key, value in row.items())
    print(f'{name}: {shown}')
  programs.report(args.json, {'rows': found})


if __name__ == '__main__':
  main()
