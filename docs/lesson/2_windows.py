"""A long row of tokens becomes batches of examples."""

import quiet  # noqa: F401, I001

import drawing
import numpy as np

from minigpt import tokenizers
from minigpt.data.batches import train_batches
from minigpt.data.sources import SAMPLE
from minigpt.data.windows import make_windows, window_order

tokenizer = tokenizers.build('char', SAMPLE)
tokens = tokenizer.encode(SAMPLE)
windows = make_windows(
  tokens, context_length=8, stride=4, vocab_size=tokenizer.vocab_size
)
print(f'{len(tokens)} tokens make {windows.n_examples} windows of 8 + 1')

first = windows.at(np.array([0]))[0]
inputs, targets = first[:-1], first[1:]
for t in (0, 1, 7):
  seen, wanted = inputs[: t + 1], targets[t : t + 1]
  print(f'after {tokenizer.decode(seen)!r} comes {tokenizer.decode(wanted)!r}')

# A batch is a function of seed and step: nothing has to be remembered.
steps = [range(0, 1), range(1, 2), range(2, 3)]
batches = list(train_batches(windows, (1, 2), 0, steps, 1))
again = list(train_batches(windows, (1, 2), 0, steps[2:], 1))
print('a batch:', batches[0].shape, '[steps, gradients, batch, context + 1]')
print('step 2 again:', [tokenizer.decode(row) for row in again[0][0, 0]])
assert np.array_equal(again[0], batches[2])

# Any example of an epoch comes once, in an order of its own.
starts = window_order(windows, np.arange(2 * windows.n_examples), seed=0)
print('epoch 0 starts at', starts[: windows.n_examples][:6], '...')
print('epoch 1 starts at', starts[windows.n_examples :][:6], '...')
assert set(starts[: windows.n_examples]) == set(
  range(0, 4 * windows.n_examples, 4)
)

if drawing.path():
  figure, [panel] = drawing.new(8, 3)
  for row, start in enumerate(sorted(set(starts.tolist()))):
    panel.barh(-row, 8, left=start, color='C0', alpha=0.5)
    panel.barh(-row, 1, left=start + 8, color='C1', alpha=0.8)
  letters = [SAMPLE[i].replace(' ', '_') for i in range(len(SAMPLE))]
  places = [i + 0.5 for i in range(len(SAMPLE))]
  panel.set_xticks(places, letters, fontsize=7, family='monospace')
  panel.set_yticks([])
  panel.set_title(
    '19 windows: 8 inputs (blue), and the last target', fontsize=9
  )
  drawing.save(figure)
