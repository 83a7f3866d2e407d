"""A long row of tokens becomes batches of examples."""

import numpy as np

from minigpt import tokenizers
from minigpt.data import sources

tokenizer = tokenizers.build('char', sources.SAMPLE)
tokens = tokenizer.encode(sources.SAMPLE)
windows = sources.make_windows(
  tokens, context_length=8, stride=4, vocab_size=tokenizer.vocab_size
)
print(f'{len(tokens)} tokens make {windows.count} windows of 8 + 1')

first = windows.at(np.array([0]))[0]
inputs, targets = first[:-1], first[1:]
for t in (0, 1, 7):
  seen, wanted = inputs[: t + 1], targets[t : t + 1]
  print(f'after {tokenizer.decode(seen)!r} comes {tokenizer.decode(wanted)!r}')

# A batch is a function of seed and step: nothing has to be remembered.
steps = [range(0, 1), range(1, 2), range(2, 3)]
batches = list(sources.train_batches(windows, (1, 2), 0, steps, 1))
again = list(sources.train_batches(windows, (1, 2), 0, steps[2:], 1))
print('a batch:', batches[0].shape, '[steps, gradients, batch, context + 1]')
print('step 2 again:', [tokenizer.decode(row) for row in again[0][0, 0]])
assert np.array_equal(again[0], batches[2])

# Any example of an epoch comes once, in an order of its own.
starts = sources.window_order(windows, np.arange(2 * windows.count), seed=0)
print('epoch 0 starts at', starts[: windows.count][:6], '...')
print('epoch 1 starts at', starts[windows.count :][:6], '...')
assert set(starts[: windows.count]) == set(range(0, 4 * windows.count, 4))
