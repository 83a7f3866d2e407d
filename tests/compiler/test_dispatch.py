"""Dispatch: which implementation of an operation is traced."""

import helpers
import pytest
import tensorflow as tf

from minigpt.compiler import backend, dispatch
from minigpt.model import layers


@pytest.fixture
def double(monkeypatch):
  """An operation whose result names the implementation; not registered."""
  monkeypatch.setattr(dispatch.Op, 'registry', [])

  @dispatch.Op
  def double(x, scale=2):
    return 'definition'

  @double.implementation('xla', supports=lambda scale, **_: scale == 3)
  def by_three(x, scale=2):
    return 'by three'

  @double.implementation('xla', 'graph')
  def always(x, scale=2):
    return 'always'

  @double.overload(lambda x, **_: isinstance(x, str))
  def of_text(x, scale=2):
    return 'of text'

  return double


def test_the_first_implementation_that_fits_is_taken(double):
  def found(mode, *args):
    with backend.tracing(mode):
      return double(*args)

  assert found('xla', 1, 3) == 'by three'
  assert found('xla', 1) == 'always'
  assert found('graph', 1, 3) == 'always'
  assert found('hybrid', 1, 3) == 'definition'


def test_nobody_compiles_eager_code_and_functions_of_the_users(double):
  assert double(1, scale=3) == 'definition'
  seen = []
  tf.function(lambda x: seen.append(double(x)) or x)(tf.constant(1))
  assert seen == ['definition']


def test_scopes_have_the_names_of_operations():
  with tf.Graph().as_default() as graph:
    x = tf.zeros([2, 2])
    layers.gelu(x)
    assert not any('gelu' in op.name for op in graph.get_operations())
    with dispatch.name_scopes():
      layers.gelu(x)
    assert 'gelu/Tanh' in [op.name for op in graph.get_operations()]


def test_an_overload_is_taken_in_every_backend(double):
  assert double('a') == 'of text'
  for mode in ('xla', 'hybrid', 'graph'):
    with backend.tracing(mode):
      assert double('a', 3) == 'of text'


def test_programs_that_leave_are_for_another_backend(double):
  for device, name in backend.DEVICES.items():
    with backend.leaving_for(device), backend.tracing('xla'):
      assert backend.current().name == name
      assert double(1) == 'definition'


def test_an_operation_keeps_name_and_words_of_its_definition():
  assert layers.gelu.__name__ == 'gelu'
  assert layers.gelu.__doc__.startswith('Computes GELU')


def test_a_compiled_program_finds_the_kernels_whatever_was_imported():
  """The first program loads the kernels, whatever was imported before."""
  code = (
    'import sys, tensorflow as tf\n'
    'from minigpt.model.layers import gelu\n'
    'from minigpt.compiler.jit import compiled\n'
    'assert "minigpt.kernels" not in sys.modules\n'
    'compiled(gelu, "graph")(tf.ones([2]))\n'
    'assert "minigpt.kernels" in sys.modules\n'
    'assert gelu.implementations\n'
  )
  done = helpers.run('-c', code)
  assert done.returncode == 0, done.stderr
