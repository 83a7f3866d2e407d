"""Text is released as soon as it is certain, and no sooner."""

from minigpt import tokenizers
from minigpt.generation.detokenizer import Detokenizer
from minigpt.tokenizers.base import Tokenizer

CHARS = tokenizers.build('char', 'abcd')


class Bytes(Tokenizer):
  """Each token is a byte."""

  def __init__(self):
    """Needs nothing."""

  def decode_bytes(self, ids):
    return bytes(ids)


def added(text, tokens):
  return [text.add([token]) for token in tokens], text.finish(), text.stopped


def test_what_may_begin_a_stop_string_is_held_back():
  text = Detokenizer(CHARS, ('abc',))
  assert added(text, [0, 1, 0, 3]) == (['', '', 'ab', 'ad'], '', False)
  assert text.text == 'abad'


def test_the_first_stop_string_ends_the_text():
  text = Detokenizer(CHARS, ('cd', 'b'))
  assert text.add([0, 0, 1, 2, 3]) == 'aa'
  assert text.stopped and text.text == 'aa' and text.finish() == ''


def test_overlapping_stops_end_the_text_alike_in_chunks_of_any_size():
  for size in range(1, 6):
    text = Detokenizer(CHARS, ('abcd', 'bc'))
    ids = [3, 0, 1, 2, 3]
    chunks = [ids[i : i + size] for i in range(0, len(ids), size)]
    pieces = [text.add(chunk) for chunk in chunks if not text.stopped]
    assert (''.join(pieces), text.stopped) == ('da', True)


def test_a_character_comes_out_when_its_last_byte_is_in():
  text = Detokenizer(Bytes(), ())
  assert added(text, '\u6f22'.encode()) == (['', '', '\u6f22'], '', False)


def test_a_character_that_stays_incomplete_is_replaced():
  text = Detokenizer(Bytes(), ())
  assert added(text, b'a\xe6') == (['a', ''], '\ufffd', False)
