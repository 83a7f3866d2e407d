"""A small train state, and checkpoints of it."""

import pytest
import tensorflow as tf

from minigpt.checkpoints import checkpoint


class State:
  """A stand-in for a train state: two variables."""

  def __init__(self, value: float):
    self.x = tf.Variable(tf.fill([50], value))
    self.step = tf.Variable(0, dtype=tf.int64)

  def parts(self):
    return {'x': self.x, 'step': self.step}

  def checkpoint(self):
    return tf.train.Checkpoint(**self.parts())


@pytest.fixture
def toy_state():
  """The class: a state whose first variable is filled with a value."""
  return State


@pytest.fixture
def two_checkpoints(tmp_path):
  for step in (1, 2):
    info = {'val_loss': 1.0 / step}
    checkpoint.save(tmp_path, step, State(float(step)).checkpoint(), info)
  return tmp_path
