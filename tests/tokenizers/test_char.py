"""One token per character."""

import numpy as np
import pytest

from minigpt import tokenizers
from minigpt.errors import InputError


def test_char_ids_are_ranks_in_code_point_order():
  tokenizer = tokenizers.build('char', 'ba\U0001f600b')
  assert tokenizer.vocab_size == 3
  assert tokenizer.end_of_text is None
  ids = tokenizer.encode('a\U0001f600bb')
  assert ids.dtype == np.int32
  assert ids.tolist() == [0, 2, 1, 1]


def test_char_refuses_unseen_character_by_name_and_position():
  tokenizer = tokenizers.build('char', 'ac')
  for text, name in [('acb', 'U+0062'), ('ac\U0001f600', 'U+1F600')]:
    with pytest.raises(InputError) as caught:
      tokenizer.encode(text)
    assert repr(text[2]) in str(caught.value)
    assert name in str(caught.value)
    assert 'position 2' in str(caught.value)
