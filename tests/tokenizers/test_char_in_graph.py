"""Characters that are not in the vocabulary, in a graph."""

import pytest
import tensorflow as tf

from minigpt.tokenizers.char import CharTokenizer


@pytest.mark.parametrize(
  ('text', 'name'),
  [
    (b'abd', 'd (U+0064)'),
    (b'\x00', r'\000 (U+0000)'),
    ('b\U0001f600d'.encode(), '\U0001f600 (U+1F600)'),
    ('\U00100000'.encode(), '\U00100000 (U+100000)'),
    ('\U0010ffff'.encode(), '\U0010ffff (U+10FFFF)'),
    (b'\xff', '\ufffd (U+FFFD)'),
  ],
)
def test_char_refuses_unseen_character_naming_the_field(text, name):
  encode = tf.function(CharTokenizer('abc').in_graph().encode, autograph=False)
  with pytest.raises(tf.errors.InvalidArgumentError) as caught:
    encode(tf.constant([b'abc', text]), 'prompt')
  assert f'prompt: character {name} is not in' in str(caught.value)


def test_unknown_characters_are_one_on_request():
  tokenizer = CharTokenizer('abc\ufffd', True)
  texts = ['abd', '\x00\U0001f600', '', 'c\ufffd']
  found = tokenizer.in_graph().encode(tf.constant(texts)).to_list()
  assert found == [tokenizer.encode(text).tolist() for text in texts]
  assert found[0] == [0, 1, 3]
