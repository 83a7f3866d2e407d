"""1: 34 windows, 170 steps; 2: the first token and the last."""

import quiet  # noqa: F401, I001

import numpy as np

from minigpt import tokenizers
from minigpt.data.sources import SAMPLE
from minigpt.data.windows import make_windows

tokenizer = tokenizers.build('char', SAMPLE)
tokens, size = tokenizer.encode(SAMPLE), tokenizer.vocab_size

windows = make_windows(tokens, 48, stride=1, vocab_size=size)
assert windows.n_examples == (82 - 48 - 1) // 1 + 1 == 34
assert 10 * windows.n_examples // 2 == 170

windows = make_windows(tokens, 8, stride=8, vocab_size=size)
times = np.zeros(len(tokens), int)
for start in range(0, 8 * windows.n_examples, 8):
  times[start + 1 : start + 9] += 1  # the targets of a window
print('never a target:', np.flatnonzero(times == 0))
assert set(times[1:81]) == {1} and times[0] == times[81] == 0
