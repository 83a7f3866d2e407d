"""Text becomes numbers, and comes back."""

from minigpt import tokenizers
from minigpt.data.sources import SAMPLE

print(f'{len(SAMPLE)} characters: {SAMPLE[:29]!r} ...')
for kind in ('char', 'word'):
  tokenizer = tokenizers.build(kind, SAMPLE)
  ids = tokenizer.encode('the sun sets')
  print(f'{kind}: a vocabulary of {tokenizer.vocab_size}')
  print('  ids   ', ids.tolist())
  print('  tokens', [tokenizer.decode([i]) for i in ids])
  assert tokenizer.decode(ids) == 'the sun sets'

word = tokenizers.build('word', SAMPLE)
print('unseen words:', repr(word.decode(word.encode('the cat sets'))))
