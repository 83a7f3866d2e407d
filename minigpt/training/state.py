"""The training state: the variables that a training step reads and changes."""

from typing import Any, TypeAlias

import tensorflow as tf

from minigpt.config import TrainConfig
from minigpt.model import lora
from minigpt.model.lora import Adapters
from minigpt.model.params import Params
from minigpt.model.transformer import GPT
from minigpt.training.optimizers import Moments

# The parameters that train: a whole model, or the adapters of a frozen one.
Trainable: TypeAlias = Params | Adapters


class TrainState(tf.Module):
  """Parameters, moments and step; a checkpoint holds exactly `parts`."""

  def __init__(
    self, model: GPT, adapters: Adapters = (), adapter_scale: float = 1.0
  ):
    """Makes the adapters trainable if there are any, else the whole model."""
    super().__init__(name='train_state')
    self.params: Trainable = adapters or model.params
    # The weights of the model where only adapters train, else ().
    self.frozen: Any = model.params if adapters else ()
    self.adapter_scale = adapter_scale
    self.moments = Moments(_zeros_like(self.params), _zeros_like(self.params))
    self.step = tf.Variable(0, dtype=tf.int64)

  def full_params(self, trainable: Trainable) -> Params:
    """Returns the whole model's parameters, given the trainable ones."""
    if isinstance(trainable, Params):
      return trainable
    return lora.attach(self.frozen, trainable, self.adapter_scale)

  def parts(self) -> dict[str, Any]:
    """Returns the trees of variables by their names in a checkpoint."""
    return {'params': self.params, 'moments': self.moments, 'step': self.step}

  def checkpoint(self) -> tf.train.Checkpoint:
    """Returns a `tf.train.Checkpoint` of the state."""
    return tf.train.Checkpoint(**self.parts())


def _zeros_like(params: Trainable) -> Trainable:
  return tf.nest.map_structure(lambda p: tf.Variable(tf.zeros_like(p)), params)


def make_state(model: GPT, recipe: TrainConfig) -> TrainState:
  """Returns the state before the first step, with the recipe's adapters."""
  if not recipe.lora_rank:
    return TrainState(model)
  adapters = lora.init_adapters(model.config, recipe.lora_rank, recipe.seed)
  return TrainState(model, adapters, recipe.adapter_scale)
