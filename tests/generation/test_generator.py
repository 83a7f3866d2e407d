import dataclasses

import pytest

from minigpt import tokenizers
from minigpt.config import GPTConfig
from minigpt.errors import InputError, UsageError
from minigpt.generation.generator import Generator, bucket
from minigpt.generation.request import Request
from minigpt.kernels.quantize import quantize
from minigpt.model.transformer import GPT

ALPHABET = 'abcdefghijklmnop '


@pytest.fixture(scope='module')
def model():
  return GPT(GPTConfig(17, 64, 16, 2, 1, drop_rate=0.0, init_std=0.3))


@pytest.fixture(scope='module')
def complete(model):
  return completer(model)


def completer(model, weights=None, compile='auto'):
  p = quantize(model.params, weights) if weights else model.params
  tokenizer = tokenizers.build('char', ALPHABET)
  return Generator(p, model.config, tokenizer, compile)


def test_prompts_of_new_lengths_do_not_compile_anew(complete):
  complete(['abc'], Request(max_new_tokens=20))
  n_traces = complete.programs.n_traces
  for prompt in ('a', 'abcdefg', 'abcdefghijklmno'):
    complete([prompt], Request(max_new_tokens=17, temperature=0))
  assert complete.programs.n_traces == n_traces > 0


def test_streamed_pieces_add_up_to_the_text(complete):
  pieces = ['', '']
  request = Request(max_new_tokens=40, seed=3, stop=('ab', 'pp'))

  def on_text(row, text):
    pieces[row] += text

  assert complete(['abc', 'k'], request, on_text) == pieces


def test_each_row_stops_at_its_first_stop_string(complete):
  free = complete(['abc', 'k'], Request(max_new_tokens=40, seed=3))
  stop = free[0][17:19]  # Across the border of two chunks or inside one.
  texts = complete(
    ['abc', 'k'], Request(max_new_tokens=40, seed=3, stop=[stop])
  )
  assert texts == [text.split(stop)[0] for text in free]
  assert texts[0] != free[0]


def test_samples_differ_by_seed_and_repeat_with_it(complete):
  a, b = complete(['abc', 'abc'], Request(max_new_tokens=30, seed=1))
  assert a != b
  assert complete(['abc'], Request(max_new_tokens=30, seed=2)) == [b]


def test_a_prompt_beyond_the_context_keeps_its_end(complete):
  end = (ALPHABET * 5)[-64:]
  request = Request(max_new_tokens=8, temperature=0)
  assert complete([ALPHABET * 5], request) == complete([end], request)


def test_speculation_writes_the_same_text(complete):
  """Across chunks of other lengths, past the context, to a stop string."""
  prompts = ['abcabcabc', 'k']
  greedy = Request(max_new_tokens=100, temperature=0.0)
  free = complete(prompts, greedy)
  assert complete(prompts, dataclasses.replace(greedy, speculate=4)) == free
  # The short one completes first, although the long one begins earlier.
  stops = free[0][20:24], free[0][21:23]
  stopped = dataclasses.replace(greedy, stop=stops)
  texts = complete(prompts, stopped)
  assert texts == [text.split(stops[1])[0] for text in free]
  assert complete(prompts, dataclasses.replace(stopped, speculate=4)) == texts


@pytest.mark.parametrize('weights', ['bfloat16', 'int8'])
def test_speculation_with_small_weights_writes_the_same_text(weights, model):
  complete = completer(model, weights, 'graph')
  prompts = ['abcabcabc', 'k']
  greedy = Request(max_new_tokens=100, temperature=0.0)
  free = complete(prompts, greedy)
  assert complete(prompts, dataclasses.replace(greedy, speculate=4)) == free


def test_what_reads_drafts_more_coarsely_cannot_speculate(model):
  request = Request(temperature=0.0, speculate=4)
  with pytest.raises(UsageError, match='speculate=4: weights=w8a8 round'):
    completer(model, 'w8a8')(['abc'], request)


def test_number_of_tokens(complete):
  for n in (1, 16, 17, 70):
    [text] = complete(['abc'], Request(max_new_tokens=n))
    assert len(text) == n


def test_prompts_the_model_cannot_read_are_refused(complete):
  with pytest.raises(InputError, match='é'):
    complete(['é'], Request())
  with pytest.raises(InputError, match='the prompt is empty'):
    complete([''], Request())


def test_buckets():
  sizes = [bucket(n, 100) for n in (1, 16, 17, 33, 65, 500)]
  assert sizes == [16, 16, 32, 64, 100, 100]
  assert bucket(3, 8) == 8
