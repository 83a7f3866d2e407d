"""The files of `transformers`; test_huggingface compares them with GPT-2's."""

from minigpt import tokenizers
from minigpt.tokenizers import hf_files


def test_bytes_are_spelled_with_visible_characters():
  assert hf_files.spelled(b'the') == 'the'
  assert hf_files.spelled(b' a\n') == '\u0120a\u010a'
  every = hf_files.spelled(bytes(range(256)))
  assert len(set(every)) == 256
  assert every.isprintable() and ' ' not in every


def test_a_merge_joins_the_two_tokens_that_are_left_before_it():
  tokens = [b'a', b'b', b'ab', b'aba', b'abab']
  assert hf_files.merges(tokens) == ['a b', 'ab a', 'ab ab']


def test_other_tokenizers_have_no_such_files():
  assert hf_files.files(tokenizers.build('char', 'ab')) == {}


def test_the_end_of_text_is_no_merge(gpt2_tokenizer):
  files = hf_files.files(gpt2_tokenizer)
  lines = files['merges.txt'].splitlines()
  assert len(lines) == 1 + 50_000
  assert '<|endoftext|>' not in files['merges.txt']
  assert '"eos_token": "<|endoftext|>"' in files['tokenizer_config.json']
