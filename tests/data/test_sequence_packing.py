"""Prompts and completions packed into rows."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from minigpt import tokenizers
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data import sequence_packing
from minigpt.data.batches import train_batches
from minigpt.data.jsonl import Pair
from minigpt.errors import InputError
from minigpt.model import attention
from minigpt.model.layers import cross_entropy
from minigpt.model.loss import loss_fn
from minigpt.model.transformer import GPT, gpt
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run
from minigpt.training.state import TrainState
from minigpt.training.step import mean_loss_and_grads
from minigpt.training.validation import compiled_eval_step, evaluate_batches

CONFIG = GPTConfig(12, 15, 16, 2, 2, drop_rate=0.0, init_std=0.3)
TOKENIZER = tokenizers.build('char', '\n abcdefghij')
PAIRS = [
  Pair('line 1', 'ab', 'ba'),
  Pair('line 2', 'a', 'b'),
  Pair('line 3', 'abcde', 'edcba'),
  Pair('line 4', 'cc', 'cccc'),
  Pair('line 5', 'j', 'i'),
]


@pytest.fixture(scope='module')
def model():
  return GPT(CONFIG, seed=2)


def alone(pair, p):
  """Returns the losses of a completion and its end, without packing."""
  tokens = TOKENIZER.encode(f'{pair.prompt}{pair.completion}\n')[None]
  losses = cross_entropy(gpt(tokens[:, :-1], p, CONFIG), tokens[:, 1:])
  return losses.numpy()[0, len(pair.prompt) - 1 :]


def test_a_packed_row_by_hand():
  rows = sequence_packing.pack(PAIRS[:2], TOKENIZER, 9)
  assert TOKENIZER.decode(rows.tokens[0]) == 'abba\nab\n\n\n'
  assert rows.segments.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 0, 0]]
  batch = rows.batch(np.array([0]))
  assert batch.windows.shape == (1, 10)
  # The targets are b, a, end of the first and b, end of the second.
  assert batch.weights.tolist() == [[0, 1, 1, 1, 0, 1, 1, 0, 0]]
  assert batch.segments.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2, 0]]


def test_segments_hide_other_segments_and_the_future():
  mask = attention.segment_mask(tf.constant([[1, 1, 2, 2, 0]]))
  assert mask.numpy()[0].astype(int).tolist() == [
    [1, 0, 0, 0, 0],
    [1, 1, 0, 0, 0],
    [0, 0, 1, 0, 0],
    [0, 0, 1, 1, 0],
    [0, 0, 0, 0, 1],
  ]


def test_the_loss_of_packed_rows_is_the_sum_of_their_examples(model):
  rows = sequence_packing.pack(PAIRS, TOKENIZER, 15)
  assert rows.n_examples == 2
  batch = rows.batch(np.arange(2))
  windows, weights, segments = batch
  found = loss_fn(
    windows, model.params, CONFIG, weights=weights, segments=segments
  )
  want = sum(alone(pair, model.params).sum() for pair in PAIRS)
  np.testing.assert_allclose(found, want, rtol=1e-5)


def test_evaluation_is_the_mean_over_all_targets(model):
  step = compiled_eval_step(model.params, CONFIG, 'float32')
  rows = sequence_packing.pack(PAIRS, TOKENIZER, 11)
  assert rows.n_examples == 3
  found = evaluate_batches(step, sequence_packing.packed_eval_batches(rows, 2))
  losses = np.concatenate([alone(pair, model.params) for pair in PAIRS])
  np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-5)


def test_accumulated_batches_weigh_each_target_alike(model):
  rows = sequence_packing.pack(PAIRS, TOKENIZER, 11)
  parts = rows.at(np.array([[0], [1], [2]]))
  loss, _ = mean_loss_and_grads(
    tf.nest.map_structure(tf.constant, parts),
    model.params,
    CONFIG,
    'float32',
    None,
  )
  losses = np.concatenate([alone(pair, model.params) for pair in PAIRS])
  np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_rows_are_filled_without_overlap(lengths):
  places = sequence_packing.best_fit(lengths, 9)
  slots = [
    (row, start + i)
    for (row, start, _), n in zip(places, lengths, strict=True)
    for i in range(n)
  ]
  assert len(set(slots)) == len(slots)
  assert all(0 <= slot < 9 for _, slot in slots)
  n_rows = 1 + max(row for row, _ in slots)
  for row in range(n_rows):
    numbers = sorted(number for r, _, number in places if r == row)
    assert numbers == list(range(1, len(numbers) + 1))
  fill = [sum(r == row for r, _ in slots) for row in range(n_rows)]
  assert n_rows == 1 or sum(sorted(fill)[:2]) > 9  # No two would fit.


def test_batches_are_the_same_for_the_same_seed_and_cover_all_rows():
  rows = sequence_packing.pack(PAIRS * 4, TOKENIZER, 11)
  n = rows.n_examples
  [first], [again] = (
    list(train_batches(rows, (1, n), 5, [range(1)], 1)) for _ in range(2)
  )
  assert first.windows.shape == (1, 1, n, 12)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a, b)
  rows_seen = sorted(map(bytes, first.windows[0, 0]))
  assert rows_seen == sorted(map(bytes, rows.tokens))
  np.testing.assert_allclose(first.weights.sum(), 1, rtol=1e-6)


def test_long_examples_are_named_or_cut():
  long = [*PAIRS[:2], Pair('p.jsonl, line 6', 'abcdef', 'ghij')]
  with pytest.raises(InputError, match='line 6: the example has 11 tokens'):
    sequence_packing.pack(long, TOKENIZER, 9)
  rows = sequence_packing.pack(long[-1:], TOKENIZER, 7, truncate=True)
  assert TOKENIZER.decode(rows.tokens[0]) == 'defghij\n'
  assert rows.is_target[0].astype(int).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
  rows = sequence_packing.pack(long[-1:], TOKENIZER, 3, truncate=True)
  assert TOKENIZER.decode(rows.tokens[0]) == 'hij\n'
  assert rows.is_target[0].astype(int).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
  ('pair', 'message'),
  [
    (Pair('p.jsonl, line 7', 'a', 'x'), "line 7: character 'x'"),
    (Pair('p.jsonl, line 8', 'a', 'b\nc'), 'line 8: its completion holds a'),
  ],
)
def test_pairs_that_the_tokenizer_cannot_hold(pair, message):
  with pytest.raises(InputError, match=message):
    sequence_packing.pack([pair], TOKENIZER, 9)


def test_a_tokenizer_without_any_end_is_refused():
  with pytest.raises(InputError, match='no end of text and no line feed'):
    sequence_packing.pack(PAIRS, tokenizers.build('char', 'abcdefghij'), 9)


def test_an_empty_prompt_is_packed_as_it_is_generated_from():
  rows = sequence_packing.pack([Pair('', '', 'ba')], TOKENIZER, 4)
  start = tokenizers.encode_prompt(TOKENIZER, '')
  assert rows.tokens[0].tolist() == [*start, *TOKENIZER.encode('ba\n'), 0]
  assert rows.is_target[0].astype(int).tolist() == [0, 1, 1, 1, 0]


def test_words_end_with_their_own_token():
  words = tokenizers.build('word', 'to be')
  rows = sequence_packing.pack([Pair('', '', 'be')], words, 2)
  end = words.end_of_text
  assert rows.tokens.tolist() == [[end, words.encode('be')[0], end]]


def test_a_run_learns_pairs_with_and_without_accumulation(tmp_path):
  file = tmp_path / 'pairs.jsonl'
  words = ['abc', 'cab', 'bca', 'aab', 'bbc', 'cca', 'acb', 'bac']
  reversals = [(f'{word}>', word[::-1]) for word in words]
  file.write_text(
    ''.join(
      json.dumps({'prompt': prompt, 'completion': completion}) + '\n'
      for prompt, completion in [('', 'cab'), *reversals]
    )
  )
  overrides = dict(
    dataset=str(file),
    context_length=24,
    emb_dim=32,
    steps=60,
    batch_size=1,
    grad_accum=2,
    eval_every=30,
    eval_stride=0,
    steps_per_call=10,
    drop_rate=0.0,
    compile='graph',
  )
  path = tmp_path / 'run'
  with open_run(path, overrides, preset='mini', say=say_nothing) as run:
    run.train()
    assert run.history.best_loss < 0.3
    # The sample continues the first prompt, which is empty.
    assert 0 < len(run.sample()) < 10


def test_adapters_need_a_model_to_start_from():
  with pytest.raises(ValueError, match='give --init_from'):
    TrainConfig(lora_rank=2)
  assert TrainState(GPT(CONFIG)).frozen == ()
