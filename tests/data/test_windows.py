import os

import numpy as np
import pytest
import tensorflow as tf

from minigpt.config import DataConfig
from minigpt.data import sources
from minigpt.errors import InputError, UsageError


def windows_of(n_tokens, context_length=4, stride=1):
  return sources.make_windows(
    np.arange(n_tokens), context_length, stride, vocab_size=n_tokens
  )


def batches(windows, calls, length, shape=(1, 2), seed=0):
  return list(sources.train_batches(windows, shape, seed, calls, length))


def test_windows_start_at_multiples_of_the_stride():
  assert windows_of(12, stride=3).count == 3  # 0, 3 and 6; 7 is the last
  assert windows_of(12, stride=0).count == 2  # 0 and 4
  assert windows_of(5).at(np.array([0])).tolist() == [[0, 1, 2, 3, 4]]


def test_an_epoch_visits_every_window_once_and_each_in_another_order():
  windows = windows_of(24)
  n = windows.count
  for seed in range(3):
    starts = sources.window_order(windows, np.arange(3 * n), seed).reshape(3, n)
    for epoch in starts:
      assert sorted(epoch) == list(range(n))
    assert (starts[0] != starts[1]).mean() > 0.5
    assert (starts[0] != np.arange(n)).mean() > 0.5


def test_order_is_shuffled_evenly_for_every_seed():
  """Each window comes first in an epoch about equally often."""
  windows = windows_of(8)  # four windows
  for seed in range(2):
    firsts = sources.window_order(windows, np.arange(0, 4000, 4), seed)
    assert np.bincount(firsts, minlength=4).min() > 200


def test_a_batch_is_a_function_of_seed_and_step():
  windows = windows_of(40)
  one_by_one = batches(windows, [range(i, i + 1) for i in range(6)], 1)
  in_one = batches(windows, [range(6)], 6)[0]
  np.testing.assert_array_equal(np.concatenate(one_by_one), in_one)
  later = batches(windows, [range(4, 6)], 2)[0]
  np.testing.assert_array_equal(later, in_one[4:])
  assert (batches(windows, [range(6)], 6, seed=1)[0] != in_one).any()
  assert in_one.shape == (6, 1, 2, 5)


def test_tokens_are_read_through_the_memory_map(tmp_path):
  path = str(tmp_path / 'tokens.npy')
  np.save(path, np.arange(1000, dtype=np.uint16))
  split = sources.read_split(DataConfig(dataset=path, val_fraction=0.1))
  assert len(split.train) == 900 and split.val[0] == 900
  windows = sources.make_windows(split.train, 8, 1, 1000)
  assert isinstance(windows.tokens, np.memmap)
  assert windows.at(np.array([5, 7]))[1].tolist() == list(range(7, 16))


@pytest.mark.parametrize('n', [2, 9, 10, 23, 24, 25])
@pytest.mark.parametrize('stride', [0, 1, 3])
def test_evaluation_scores_every_token_but_the_first_once(n, stride):
  counts = np.zeros(n)
  for batch in sources.eval_batches(np.arange(n), 8, 2, stride):
    assert batch.windows.shape == (2, 9)
    targets = batch.windows[:, 1:][batch.weights == 1]
    np.add.at(counts, targets, 1)
  assert counts.tolist() == [0] + [1] * (n - 1)


def test_a_short_stride_gives_scored_tokens_more_context():
  first, second = sources.eval_batches(np.arange(12), 8, 1, stride=3)
  assert first.weights.tolist() == [[1] * 8]
  assert second.windows[0, 0] == 3
  assert second.weights.tolist() == [[0] * 5 + [1] * 3]


def test_limited_evaluation_is_spread_over_the_text():
  found = list(sources.eval_batches(np.arange(1000), 8, 2, limit=3))
  assert len(found) == 3
  assert found[0].windows[0, 0] == 0 and found[-1].windows[-1, 0] > 950


def test_the_last_part_of_the_text_is_for_validation(tmp_path):
  (tmp_path / 'a.txt').write_text('abcdefghi')
  (tmp_path / 'b.txt').write_text('J' * 10)
  split = sources.read_split(
    DataConfig(str(tmp_path / '*.txt'), val_fraction=0.5)
  )
  assert split == ('abcdefghi\n', 'J' * 10)


def test_the_sample_is_the_specifications():
  assert len(sources.SAMPLE) == 82
  assert sources.read_split(DataConfig('sample', val_fraction=0)) == (
    sources.SAMPLE,
    sources.SAMPLE,
  )


def test_stdlib_is_python_source_and_the_same_each_time():
  text = sources.read_split(DataConfig('stdlib', val_fraction=0)).train
  assert len(text) > 5_000_000 and text.isascii()
  assert 'def ' in text and 'site-packages/numpy' not in text


@pytest.mark.skipif(
  not os.path.isdir(
    os.path.join(os.environ.get('TFDS_DATA_DIR', ''), 'tiny_shakespeare')
  ),
  reason='TFDS_DATA_DIR holds no tiny_shakespeare',
)
def test_tiny_shakespeare_has_both_splits():
  ours = sources.read_split(DataConfig('tiny_shakespeare'))
  assert list(map(len, ours)) == [1_003_854, 111_540]
  theirs = sources.read_split(DataConfig('tiny_shakespeare', own_splits=True))
  assert list(map(len, theirs)) == [1_003_854, 55_770]
  assert ours.train == theirs.train and ours.val.startswith(theirs.val)


def test_faults_of_text_name_the_culprit(tmp_path):
  empty, latin = tmp_path / 'empty.txt', tmp_path / 'latin.txt'
  empty.touch()
  latin.write_bytes(b'caf\xe9')
  for dataset, fault in (
    (str(empty), 'holds no text'),
    (str(latin), 'not UTF-8 .byte 3'),
    (str(tmp_path / 'none.txt'), 'no such file'),
    (str(tmp_path), 'is a directory'),
  ):
    with pytest.raises(InputError, match=fault):
      sources.read_split(DataConfig(dataset))
  with pytest.raises(UsageError, match="did you mean 'tiny_shakespeare'"):
    sources.read_split(DataConfig('tinyshakespeare'))
  with pytest.raises(UsageError, match='own_splits'):
    sources.read_split(DataConfig('sample', own_splits=True))


def test_faults_of_token_files_name_the_culprit(tmp_path):
  path = tmp_path / 'tokens.npy'
  for content, fault in (
    (b'', 'is not a'),
    (b'garbage', 'is not a'),
  ):
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault):
      sources.read_split(DataConfig(str(path)))
  np.save(path, np.zeros([2, 2]))
  with pytest.raises(InputError, match='one-dimensional integer'):
    sources.read_split(DataConfig(str(path)))
  np.save(path, np.array([{}]), allow_pickle=True)
  with pytest.raises(InputError, match='is not a'):
    sources.read_split(DataConfig(str(path)))


def test_short_texts_and_foreign_ids_are_refused():
  with pytest.raises(UsageError, match=r'4 tokens, fewer than .* = 5'):
    sources.make_windows(np.arange(4), 4, 1, 100)
  with pytest.raises(InputError, match='id 70 at position 3'):
    sources.make_windows(np.array([1, 2, 3, 70, 4, 80]), 4, 1, 65)


def test_token_arrays_take_the_smallest_dtype():
  for vocab_size, dtype in (
    (65, 'u1'),
    (256, 'u1'),
    (257, 'u2'),
    (50257, 'u2'),
  ):
    assert sources.smallest_unsigned(vocab_size) == dtype


def test_the_end_of_the_batches_waits_for_nobody(monkeypatch):
  """A thread that tunes would hold it for up to a minute."""
  made = []
  iterate = tf.data.Dataset.as_numpy_iterator

  def noting(dataset):
    made.append(dataset)
    return iterate(dataset)

  monkeypatch.setattr(tf.data.Dataset, 'as_numpy_iterator', noting)
  assert len(batches(windows_of(20), [range(2)], 2)) == 1
  assert made[0].options().autotune.enabled is False
