"""Artifacts for other runtimes: their names, and what they compute.

TensorFlow itself runs them here, by the operation that runs what
JAX has lowered.
"""

import dataclasses
import importlib.util
import json

import helpers
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from minigpt.config import TrainConfig
from minigpt.errors import InputError
from minigpt.model.params import named_leaves
from minigpt.model.transformer import GPT
from minigpt.profiling import workloads
from minigpt.serving import stablehlo


def run(folder, function, **other):
  """Returns results by name, computed from the files alone."""
  arguments = [
    np.zeros(a['shape'], a['dtype'])
    if a['file'] is None
    else np.load(folder / a['file'])
    for a in function['arguments']
  ]
  names = [a['name'] for a in function['arguments']]
  for name, value in other.items():
    arguments[names.index(name)] = np.asarray(value, np.int32)
  results = function['results']

  @tf.function(jit_compile=True, autograph=False)
  def call(*arguments):
    return xla.call_module(
      arguments,
      version=9,
      module=(folder / function['file']).read_bytes(),
      Sout=[r['shape'] for r in results],
      Tout=[r['dtype'] for r in results],
      platforms=['CPU'],
    )

  found = call(*map(tf.constant, arguments))
  return dict(zip([r['name'] for r in results], found, strict=True))


@pytest.fixture(scope='module')
def folder(config, model, tmp_path_factory):
  path = tmp_path_factory.mktemp('artifacts') / 'm'
  recipe = TrainConfig(batch_size=2, warmup_steps=0)
  about = {'compute_dtype': 'float32', 'weights': 'float32'}
  given = {
    'score': workloads.prefill(model.params, config, 2, 5),
    'greedy': workloads.decode(model.params, config, 2, 5, 4),
  }
  stablehlo.write(path, given, about)
  train = {'train': workloads.train(config, recipe)}
  stablehlo.write(path / 'train', train, about)
  return path


def function(folder, name):
  manifest = json.loads((folder / stablehlo.MANIFEST).read_text())
  return manifest['functions'][name]


@pytest.mark.parametrize('name', ['score', 'greedy'])
def test_an_artifact_computes_what_the_model_does(name, folder):
  f = function(folder, name)
  [(_, found)] = run(folder, f).items()
  [expected] = f['results']
  np.testing.assert_allclose(
    found.numpy().ravel()[:8], expected['first'], rtol=1e-4, atol=1e-5
  )
  assert np.linalg.norm(found) == pytest.approx(expected['norm'], rel=1e-4)


def test_a_call_can_stop_at_the_prompt(folder):
  f = function(folder, 'greedy')
  assert f['before'] == {'n': 0}
  assert not run(folder, f, **f['before'])['new_tokens'].numpy().any()


def test_a_step_hands_back_its_state_under_the_names_it_came_by(folder):
  """So the results of a step can be the arguments of the next."""
  folder = folder / 'train'
  f = function(folder, 'train')
  found = run(folder, f)
  state = [a['name'] for a in f['arguments']][2:]
  assert list(found) == ['loss', 'grad_norm', 'learning_rate', *state]
  assert found['step'].numpy() == 1
  for result in f['results']:
    value = found[result['name']].numpy()
    assert list(value.shape) == result['shape']
    # AdamW's first step is the sign of a gradient, however small.
    np.testing.assert_allclose(
      np.linalg.norm(value), result['norm'], rtol=1e-2, atol=1e-6
    )


def test_arguments_are_files_named_by_the_model(folder, config, model):
  leaves = named_leaves(model.params, 'params')
  arguments = {a['name']: a for a in function(folder, 'score')['arguments']}
  assert set(arguments) == {'tokens', *leaves}
  for name, leaf in leaves.items():
    file = arguments[name]['file']
    stored = np.load(folder / file) if file else np.zeros(leaf.shape)
    np.testing.assert_array_equal(stored, leaf)
  moments = function(folder / 'train', 'train')['arguments'][-1]
  assert moments['name'].startswith('moments.')
  assert moments['file'] is None  # zeros take no space


def test_weights_that_are_drawn_are_in_no_file(config, tmp_path):
  """They are as the manifest describes, and the results are theirs."""
  recipe = TrainConfig(batch_size=2, steps_per_call=1, grad_accum=1)
  call = workloads.train(config, recipe)
  stablehlo.write(
    tmp_path / 'm', {'train': call}, {}, expected=False, drawn=True
  )
  weights = {k: v.numpy() for k, v in call.variables.items()}
  for about in function(tmp_path / 'm', 'train')['arguments']:
    if 'drawn' not in about:
      assert len(about['shape']) != 2 or about['name'].startswith('moments.')
      continue
    assert about['file'] is None
    seed, std = about['drawn']['seed'], about['drawn']['std']
    drawn = np.random.default_rng(seed).standard_normal(about['shape'], 'f4')
    np.testing.assert_array_equal(
      weights[about['name']], np.float32(std) * drawn
    )
    assert weights[about['name']].std() == pytest.approx(std, rel=0.1)


@pytest.fixture(scope='module')
def make_step(config):
  """Returns a function that makes a training step in bfloat16."""
  config = dataclasses.replace(config, emb_dim=32, n_layers=1)
  recipe = TrainConfig(batch_size=2, compute_dtype='bfloat16')
  return lambda: workloads.train(config, recipe)


@pytest.fixture(scope='module')
def expected_loss(make_step):
  return make_step()().loss[0].numpy()


@pytest.mark.parametrize('device', ['any', 'cuda'])
def test_an_artifact_is_for_its_device_and_expects_the_same(
  device, make_step, expected_loss, tmp_path
):
  stablehlo.write(tmp_path / 'm', {'train': make_step()}, {}, device)
  artifact = (tmp_path / 'm/train.stablehlo').read_bytes()
  assert (b'__cudnn$fmhaSoftmax' in artifact) == (device == 'cuda')
  loss = function(tmp_path / 'm', 'train')['results'][0]
  assert loss['norm'] == pytest.approx(expected_loss)


def test_an_artifact_is_portable_and_names_no_file_of_this_machine(folder):
  for name in ('score', 'greedy', 'train/train'):
    artifact = (folder / f'{name}.stablehlo').read_bytes()
    assert b'StableHLO_v0.9.0' in artifact[:40]
    assert b'.py' not in artifact


def test_a_folder_that_is_there_stays_as_it_is(folder):
  before = (folder / stablehlo.MANIFEST).read_text()
  with pytest.raises(InputError, match='exists already'):
    stablehlo.write(folder, {}, {})
  assert (folder / stablehlo.MANIFEST).read_text() == before


def test_it_runs_under_another_runtime(folder, config):
  """JAX's runtime, which is independent of TensorFlow."""
  if importlib.util.find_spec('jax') is None:
    pytest.skip('no jax')
  drawn = folder / 'drawn'
  call = {'score': workloads.prefill(GPT(config).params, config, 2, 5)}
  about = {'compute_dtype': 'float32', 'weights': 'float32'}
  stablehlo.write(drawn, call, about, drawn=True)
  for path in (folder, folder / 'train', drawn):
    done = helpers.run(
      'benchmarks/pjrt.py', path, '--repeats=1', '--peak_tflops=1'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('results as expected') == done.stdout.count('MFU')


def test_what_is_for_cuda_says_so_elsewhere(config, tmp_path):
  if importlib.util.find_spec('jax') is None:
    pytest.skip('no jax')
  call = {'score': workloads.prefill(GPT(config).params, config, 2, 5)}
  stablehlo.write(tmp_path / 'm', call, {}, 'cuda', expected=False)
  done = helpers.run('benchmarks/pjrt.py', tmp_path / 'm')
  assert done.returncode == 1
  assert 'is for CUDA; JAX has found cpu here' in done.stderr
