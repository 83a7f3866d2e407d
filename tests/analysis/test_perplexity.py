"""Perplexity against transformers, whose loss is kept in tests/golden."""

import importlib.util
import math

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.analysis import perplexity
from minigpt.checkpoints import huggingface
from minigpt.checkpoints.loading import LoadedModel

GOLDEN = helpers.ROOT / 'tests' / 'golden'


def golden_model(name):
  config, weights = huggingface.read(GOLDEN / name)
  letters = ''.join(map(chr, range(0x100, 0x100 + config.vocab_size)))
  return LoadedModel(
    config,
    tf.nest.map_structure(tf.Variable, weights),
    tokenizers.build('char', letters),
  )


@pytest.mark.parametrize('name', ['gpt2-wide', 'gpt2-untied', 'gpt2-deep'])
def test_perplexity_is_that_of_transformers(name):
  pytest.importorskip('safetensors')
  want = np.load(GOLDEN / name / 'expected.npz')
  model = golden_model(name)
  found = perplexity.evaluate_text(
    model, want['text'], model.config.context_length - 1, stride=8
  )
  assert found['loss'] == pytest.approx(want['loss'], rel=1e-5)
  assert found['perplexity'] == pytest.approx(np.exp(want['loss']), rel=1e-4)
  assert found['tokens'] == 299
  # Every character of this vocabulary takes two bytes.
  bits = want['loss'] / math.log(2) / 2
  assert found['bits_per_byte'] == pytest.approx(bits, rel=1e-5)


def test_perplexity_is_that_of_the_transformers_here():
  transformers = pytest.importorskip('transformers')
  torch = pytest.importorskip('torch')
  path = GOLDEN / 'make_gpt2.py'
  spec = importlib.util.spec_from_file_location('make_gpt2', path)
  make_gpt2 = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(make_gpt2)
  theirs = transformers.GPT2LMHeadModel.from_pretrained(GOLDEN / 'gpt2-wide')
  text = np.random.default_rng(1).integers(61, size=150)
  with torch.no_grad():
    loss = make_gpt2.sliding_loss(theirs.eval(), torch.tensor(text))
  found = perplexity.evaluate_text(golden_model('gpt2-wide'), text, 71, 8)
  assert found['perplexity'] == pytest.approx(math.exp(loss), rel=1e-4)
