"""Hugging Face's tokenizer.json: supported and refused files."""

import copy
import inspect
import json
import re
import textwrap

import pytest

from minigpt import tokenizers
from minigpt.errors import InputError
from minigpt.tokenizers import bpe_trainer, hf_tokenizer

TEXT = inspect.getsource(textwrap)
SPECIAL = ['<|user|>', '[INST]']
SAID = "<|user|>  don't \u6f22\u5b57\n\n [INST][INST]<|user|x\r\n"


@pytest.fixture(scope='module')
def tokenizer():
  return bpe_trainer.train([TEXT], 400, SPECIAL)


@pytest.fixture
def fields(tokenizer):
  return copy.deepcopy(tokenizer.to_json())


def test_the_library_of_hugging_face_reads_what_is_written(tokenizer, tmp_path):
  library = pytest.importorskip('tokenizers')
  tokenizers.save(tokenizer, tmp_path / 'tokenizer.json')
  theirs = library.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  assert theirs.get_vocab_size() == 400
  for text in (TEXT, SAID, ''):
    ids = tokenizer.encode(text).tolist()
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == text


def test_a_file_that_the_library_has_made_is_read(tmp_path):
  """The library puts special tokens first, and merges into lists."""
  library = pytest.importorskip('tokenizers')
  theirs = library.Tokenizer(library.models.BPE())
  level = library.pre_tokenizers.ByteLevel
  theirs.pre_tokenizer = level(add_prefix_space=False)
  theirs.decoder = library.decoders.ByteLevel()
  theirs.train_from_iterator(
    [TEXT],
    library.trainers.BpeTrainer(
      vocab_size=400,
      special_tokens=['<|endoftext|>', *SPECIAL],
      initial_alphabet=level.alphabet(),
      show_progress=False,
    ),
  )
  theirs.save(str(tmp_path / 't.json'))
  ours = tokenizers.load(tmp_path / 't.json')
  assert (ours.vocab_size, ours.end_of_text) == (400, 0)
  for text in (TEXT, SAID):
    assert ours.encode(text).tolist() == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


def test_gpt2_in_this_form_is_gpt2(gpt2_tokenizer):
  end = {'<|endoftext|>': gpt2_tokenizer.end_of_text}
  fields = hf_tokenizer.describe(gpt2_tokenizer.tokens, end)
  assert hf_tokenizer.parse(fields) == (gpt2_tokenizer.tokens, end)


def change(fields, path, value):
  *parents, last = path.split('/')
  for parent in parents:
    fields = fields[parent]
  fields[last] = value


@pytest.mark.parametrize(
  ('path', 'value', 'fault'),
  [
    ('model/type', 'Unigram', "'Unigram' tokenizer; minigpt reads byte-level"),
    ('model/type', 'WordPiece', "'WordPiece' tokenizer"),
    ('model/dropout', 0.1, 'dropout'),
    ('model/end_of_word_suffix', '</w>', 'end_of_word_suffix'),
    ('normalizer', {'type': 'NFC'}, "normalizes text ('NFC')"),
    ('pre_tokenizer', None, 'pre-tokenizer'),
    ('pre_tokenizer/type', 'Whitespace', "pre-tokenizer ('Whitespace')"),
    ('pre_tokenizer/add_prefix_space', True, 'pre-tokenizer'),
    ('pre_tokenizer/use_regex', False, 'pre-tokenizer'),
    ('model/merges', [], 'merges do not follow'),
    ('model/vocab', {'a': 0}, 'ids are not 0, 1, 2'),
    ('model/vocab', 7, 'not a tokenizer of Hugging Face'),
    ('model', 7, 'not a tokenizer of Hugging Face'),
    ('added_tokens', 7, 'not a tokenizer of Hugging Face'),
    ('added_tokens', [], 'merges do not follow'),
    ('added_tokens', [{'content': 'a b', 'id': 3}], 'white space'),
    (
      'added_tokens',
      [{'content': 'a', 'id': 3, 'lstrip': True}],
      'takes white',
    ),
    ('added_tokens', [{'content': 'a', 'id': 'b'}], 'not a tokenizer of'),
    ('added_tokens', [{'content': 'a', 'id': 3}] * 2, 'comes twice'),
  ],
)
def test_another_kind_is_refused_with_a_remedy(
  fields, tmp_path, path, value, fault
):
  change(fields, path, value)
  (tmp_path / 't.json').write_text(json.dumps(fields))
  with pytest.raises(InputError, match=re.escape(fault)) as caught:
    tokenizers.load(tmp_path / 't.json')
  assert str(caught.value).startswith(str(tmp_path))
  assert '\n' not in str(caught.value)


def test_merges_in_another_order_are_refused(fields):
  """The ids would not tell which of two merges comes first."""
  merges = fields['model']['merges']
  merges[0], merges[1] = merges[1], merges[0]
  with pytest.raises(InputError, match='merges do not follow'):
    hf_tokenizer.parse(fields)
  vocabulary = fields['model']['vocab']
  a, b = (''.join(pair.split(' ')) for pair in merges[:2])
  vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
  hf_tokenizer.parse(fields)


def test_text_that_lacks_a_byte_is_refused(fields):
  vocabulary = fields['model']['vocab']
  vocabulary['xyzxyzxyz'] = vocabulary.pop('\u0100')
  with pytest.raises(InputError, match='1 of the 256 bytes'):
    hf_tokenizer.parse(fields)


def test_a_name_that_spells_no_bytes_is_refused(fields):
  vocabulary = fields['model']['vocab']
  vocabulary['\u4e00'] = vocabulary.pop('\u0100')
  with pytest.raises(InputError, match='not a tokenizer of Hugging Face'):
    hf_tokenizer.parse(fields)
