"""XLA multiplies int8 numbers where oneDNN does not."""

import re

import tensorflow as tf

from minigpt.compiler import jit
from minigpt.kernels import onednn_matmul, quantize
from minigpt.model import layers
from minigpt.model.params import Linear


def test_xla_multiplies_bytes(monkeypatch):
  monkeypatch.setattr(onednn_matmul, 'reads_packed', lambda *sizes: False)
  p = quantize.quantize(Linear(tf.Variable(tf.ones([64, 32]))), 'w8a8')
  for n_rows in (8, 64):
    f = jit.compiled(lambda x: layers.linear(x, p))
    hlo = f.experimental_get_compiler_ir(tf.ones([n_rows, 64]))('optimized_hlo')
    assert len(re.findall(r' dot\(', hlo)) == 1
    assert re.search(r' = s32\[\S+ dot\(', hlo)
