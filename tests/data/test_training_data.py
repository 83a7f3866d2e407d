"""The data on which a run is evaluated."""

import json

import numpy as np

from minigpt.config import DataConfig
from minigpt.data.training_data import read_training_data


def read_text():
  config = DataConfig(dataset='sample', tokenizer='char', val_fraction=0.3)
  return read_training_data(config, 4)


def test_as_much_of_the_training_text_is_scored_as_of_the_validation_text():
  data = read_text()
  val = list(data.eval_batches(2, 4, 0, 0))
  train = list(data.train_eval_batches(2, 4, 0, 0))
  assert len(train) == len(val) == 3
  first, *_, last = (window for batch in train for window in batch.windows)
  tokens = data.train.tokens
  np.testing.assert_array_equal(first, tokens[:5])
  # The batches are spread over the whole part.
  np.testing.assert_array_equal(last, tokens[-5:])
  # Overlapping windows are more; a limit holds for both parts.
  overlapping = list(data.train_eval_batches(2, 4, 1, 0))
  assert len(overlapping) == len(list(data.eval_batches(2, 4, 1, 0)))
  assert len(list(data.train_eval_batches(2, 4, 0, 2))) == 2


def test_pairs_are_scored_in_the_same_way(tmp_path):
  pairs = [{'prompt': 'ab', 'completion': 'cd'} for _ in range(20)]
  file = tmp_path / 'pairs.jsonl'
  file.write_text('\n'.join(map(json.dumps, pairs)))
  config = DataConfig(dataset=str(file), tokenizer='char', val_fraction=0.25)
  data = read_training_data(config, 8)
  assert (data.train.n_examples, data.val.n_examples) == (15, 5)
  train = list(data.train_eval_batches(2, 8, 0, 0))
  assert len(train) == 3
  assert [batch.weights[:, 0].size for batch in train] == [2, 2, 2]
