"""The effect of barriers in optimized programs: docs/design/compilation.md."""

import re

import numpy as np
import tensorflow as tf

from minigpt.compiler import barriers, jit
from minigpt.kernels import quantize
from minigpt.model import layers
from minigpt.model.params import Linear


def test_a_loop_reads_the_weights_in_few_bits():
  w = Linear(quantize.int8(tf.random.stateless_normal([256, 128], [0, 0])))
  back = Linear(quantize.int8(tf.random.stateless_normal([128, 256], [0, 1])))

  @jit.compiled
  def loop(x):
    def turn(i, x):
      return i + 1, layers.gelu(
        layers.linear(layers.gelu(layers.linear(x, w)), back)
      )

    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  products = re.findall(r'convert_dot_fusion\S* = \S+ fusion\(([^)]*)\)', hlo)
  # Each casts as it multiplies; its vector is in memory, not recomputed.
  assert [len(given.split(', ')) for given in products] == [2, 2]


def test_a_loop_does_not_round_its_bfloat16_weights_anew():
  w = quantize.quantize(Linear(tf.Variable(tf.ones([128, 128]))), 'bfloat16')

  @jit.compiled
  def loop(x):
    turn = lambda i, x: (i + 1, layers.gelu(layers.linear(x, w)))  # noqa: E731
    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  assert 'convert_dot_fusion' in hlo
  assert not re.search(r'= bf16\[128,128\]\S* convert\(', hlo)


def test_heads_are_put_together_before_the_product_that_reads_them():
  """Inside the matmul's loop, each number would cost an index division."""
  w = Linear(quantize.int8(tf.random.stateless_normal([128, 128], [0, 0])))

  @jit.compiled
  def loop(x):
    def turn(i, x):
      heads = tf.reshape(x, [1, 4, 1, 32])
      return i + 1, layers.linear(tf.reshape(2 * tf.tanh(heads), [1, 128]), w)

    return tf.while_loop(lambda i, _: i < 9, turn, (0, x))[1]

  hlo = loop.experimental_get_compiler_ir(tf.ones([1, 128]))('optimized_hlo')
  name = re.search(r'convert_dot_fusion\S* = .*calls=(%\S+)[,\n]', hlo)[1]
  given = re.search(re.escape(name) + r' \((.*)\) ->', hlo)[1]
  # Two dimensions at most, of one row.
  assert sorted(re.findall(r'\[([\d,]*)\]', given)) in (
    ['1,128', '128,128'],
    ['128', '128,128'],
  )


def test_a_gradient_is_settled_once_for_all_who_use_it():
  def n_divisions(settle):
    @jit.compiled
    def both_sums(x):
      with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(settle(x) ** 3)
      grad = tape.gradient(loss, x)
      return [tf.reduce_max(grad, axis) for axis in (0, 1)]

    x = tf.ones([64, 64])
    np.testing.assert_allclose(both_sums(x), np.full([2, 64], 3))
    hlo = both_sums.experimental_get_compiler_ir(x)('optimized_hlo')
    return hlo.count(' divide(')

  assert [
    n_divisions(f) for f in (tf.identity, barriers.materialize_gradient)
  ] == [0, 1]
