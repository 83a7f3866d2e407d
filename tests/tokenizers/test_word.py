"""One token per word and per mark."""

import re

from minigpt import tokenizers


def test_word_splits_words_marks_and_white_space(mixed):
  tokenizer = tokenizers.build('word', mixed)
  pieces = [tokenizer.decode([i]) for i in tokenizer.encode(mixed)]
  assert pieces[:8] == ["Don't", ' ', 'stop', '!', ' ', ' ', 'It\u2019s', ' ']
  assert pieces[8:15] == ["'", 'fine', "'", '\r', '\n', '\t', 'na\u00efve']
  assert 'cafe\u0301' in pieces
  assert '\u6f22\u5b57' in pieces


def test_word_unknown_and_end_are_the_last_ids(sample):
  tokenizer = tokenizers.build('word', sample)
  n_distinct = len(set(re.findall('[a-z]+|[ .]', sample)))
  assert tokenizer.vocab_size == n_distinct + 2
  assert tokenizer.end_of_text == n_distinct + 1
  ids = tokenizer.encode('the comet sets.')
  assert tokenizer.decode(ids) == 'the <|unk|> sets.'
  assert tokenizer.decode([tokenizer.end_of_text]) == '<|eos|>'
