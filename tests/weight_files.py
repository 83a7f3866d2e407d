"""Weights in files of other programs, and comparisons of them."""

import numpy as np

from minigpt.checkpoints import huggingface
from minigpt.model import params
from minigpt.tokenizers import build

WEIGHTS = 'model.safetensors'


def leaves(tree):
  return {k: np.asarray(v) for k, v in params.named_leaves(tree).items()}


def assert_same_bytes(found, wanted):
  assert found.keys() == wanted.keys()
  for name in wanted:
    assert found[name].dtype == wanted[name].dtype, name
    assert found[name].shape == wanted[name].shape, name
    assert found[name].tobytes() == wanted[name].tobytes(), name


def tensors_of(path):
  import safetensors.numpy

  return safetensors.numpy.load_file(path / WEIGHTS)


def characters(n):
  return build('char', ''.join(map(chr, range(0x10000, 0x10000 + n))))


def write(path, config, weights):
  huggingface.write(path, config, weights, characters(config.vocab_size))
