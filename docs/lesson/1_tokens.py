"""Text becomes numbers, and comes back."""

import drawing

from minigpt import tokenizers
from minigpt.data.sources import SAMPLE

print(f'{len(SAMPLE)} characters: {SAMPLE[:29]!r} ...')
cuts = {}
for kind in ('char', 'word'):
  tokenizer = tokenizers.build(kind, SAMPLE)
  ids = tokenizer.encode('the sun sets')
  cuts[kind] = [tokenizer.decode([i]) for i in ids], ids.tolist()
  print(f'{kind}: a vocabulary of {tokenizer.vocab_size}')
  print('  ids   ', ids.tolist())
  print('  tokens', cuts[kind][0])
  assert tokenizer.decode(ids) == 'the sun sets'

word = tokenizers.build('word', SAMPLE)
print('unseen words:', repr(word.decode(word.encode('the cat sets'))))

if drawing.path():
  figure, [panel] = drawing.new(7, 1.8)
  for row, (tokens, ids) in enumerate(cuts.values()):
    start = 0
    for i, (token, number) in enumerate(zip(tokens, ids, strict=True)):
      box = dict(color=f'C{i % 3}', alpha=0.25, edgecolor='white')
      panel.barh(-row, len(token), left=start, height=0.7, **box)
      middle = start + len(token) / 2
      label = f'{token.replace(" ", "␣")}\n{number}'
      panel.text(middle, -row, label, ha='center', va='center')
      start += len(token)
  panel.set_yticks([0, -1], cuts, fontsize=10)
  panel.set_xticks([])
  panel.set_frame_on(False)
  drawing.save(figure)
