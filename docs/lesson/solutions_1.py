"""1: five distinct characters; 2: a word token covers more text."""

from minigpt import tokenizers
from minigpt.data.sources import SAMPLE

letters = tokenizers.build('char', 'abracadabra')
assert letters.vocab_size == 5  # a, b, c, d, r
assert letters.encode('c').tolist() == [2]

word = tokenizers.build('word', SAMPLE)
average = len(SAMPLE) / len(word.encode(SAMPLE))
print(f'{average:.2f} characters a token, {48 * average:.0f} in 48 tokens')
assert 2 < average < 3  # Spaces and full stops are tokens of their own.
