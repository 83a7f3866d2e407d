"""One token per character."""

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.errors import InputError, UsageError


def test_char_ids_are_ranks_in_code_point_order():
  tokenizer = tokenizers.build('char', 'ba\U0001f600b')
  assert tokenizer.vocab_size == 3
  assert tokenizer.end_of_text is None
  ids = tokenizer.encode('a\U0001f600bb')
  assert ids.dtype == np.int32
  assert ids.tolist() == [0, 2, 1, 1]


def test_one_character_stands_for_all_unknown_ones_on_request():
  tokenizer = tokenizers.build('char', 'ca\u00e9', unknown_character=True)
  assert tokenizer.characters == 'ac\u00e9\ufffd'
  assert tokenizer.unknown == 3
  ids = tokenizer.encode('a\U0001f600b\ufffdc')
  assert ids.tolist() == [0, 3, 3, 3, 1]
  assert tokenizer.decode(ids) == 'a\ufffd\ufffd\ufffdc'
  sizes = tokenizer.token_sizes('a\u00e9\u65e5\U0001f600')
  assert sizes.tolist() == [1, 2, 3, 4]
  again = tokenizers.char.CharTokenizer.from_json(tokenizer.to_json())
  assert again.unknown == 3
  with pytest.raises(UsageError, match='for the char tokenizer'):
    tokenizers.build('word', 'a', unknown_character=True)


def test_char_refuses_unseen_character_by_name_and_position():
  tokenizer = tokenizers.build('char', 'ac')
  for text, name in [('acb', 'U+0062'), ('ac\U0001f600', 'U+1F600')]:
    with pytest.raises(InputError) as caught:
      tokenizer.encode(text)
    assert repr(text[2]) in str(caught.value)
    assert name in str(caught.value)
    assert 'position 2' in str(caught.value)
