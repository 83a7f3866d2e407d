"""A vocabulary is learned: first by hand, then by the package."""

import itertools
import pathlib
import re
from collections import Counter

import drawing

from minigpt.tokenizers import bpe_trainer

PAGE = pathlib.Path(__file__).with_name('page.txt').read_text('utf-8')
SIZE = 300  # 256 bytes, 43 merges, and one token that ends a text
# Merges stay within a word and the blank before it.
PIECE = re.compile(r' ?[A-Za-z]+| ?[^A-Za-z\s]+|\s+(?!\S)|\s+')


def merged(piece, pair):
  """Joins a pair of tokens wherever it comes: tuple of ids -> tuple of ids."""
  (left, right), new = pair
  found, i = [], 0
  while i < len(piece):
    together = piece[i : i + 2] == (left, right)
    found.append(new if together else piece[i])
    i += 1 + together
  return tuple(found)


tokens = [bytes([b]) for b in range(256)]
pieces = Counter(tuple(p.encode()) for p in PIECE.findall(PAGE))
print(f'{len(PAGE)} characters, {len(pieces)} different pieces')
lengths = [len(PAGE)]  # Of the page in tokens, after each merge.
while len(tokens) < SIZE - 1:
  pairs = Counter()
  for piece, n in pieces.items():
    for pair in itertools.pairwise(piece):
      pairs[pair] += n
  # The most frequent pair; of several, the one with the lowest ids.
  best = min(pairs, key=lambda pair: (-pairs[pair], pair))
  tokens.append(tokens[best[0]] + tokens[best[1]])
  if len(tokens) <= 264:
    left, right = (tokens[i].decode() for i in best)
    print(f'  {len(tokens) - 1}: {left!r} + {right!r}, {pairs[best]} times')
  new = best, len(tokens) - 1
  pieces = Counter({merged(p, new): n for p, n in pieces.items()})
  lengths.append(sum(n * len(piece) for piece, n in pieces.items()))
print('later:', ', '.join(repr(t.decode()) for t in tokens[-12:]))

tokenizer = bpe_trainer.train([PAGE], SIZE)
assert tokenizer.tokens == [*tokens, b'<|endoftext|>']
for text in ('the harbour', 'a hard night', 'caf\u00e9'):
  cut = [tokenizer.decode_bytes([i]) for i in tokenizer.encode(text)]
  print(f'{text!r}: {len(text.encode())} bytes, {len(cut)} tokens', *cut)
n = len(tokenizer.encode(PAGE))
print(f'the page: {len(PAGE)} bytes, {n} tokens, {len(PAGE) / n:.2f} a token')

if drawing.path():
  figure, [panel] = drawing.new(7, 2.8)
  panel.plot(range(256, SIZE), lengths)
  panel.set_xlabel('tokens in the vocabulary')
  panel.set_title('length of the page in tokens', fontsize=9)
  drawing.save(figure)
