"""Backends: the target of a trace."""

import pytest
import tensorflow as tf

from minigpt.compiler import backend, jit
from minigpt.config import COMPILE_MODES
from minigpt.errors import UsageError


@pytest.mark.parametrize('mode', COMPILE_MODES)
def test_the_mode_is_that_of_the_function_being_traced(mode):
  seen = []

  def f(x):
    seen.append(backend.current().name)
    return tf.while_loop(
      lambda i: i < 1,
      lambda i: (seen.append(backend.current().name), i + 1)[1:],
      [x],
    )

  jit.compiled(f, mode)(tf.constant(0))
  assert set(seen) == {mode}
  assert backend.current().name == 'eager'


def test_an_unknown_mode_is_named():
  with pytest.raises(UsageError, match="unknown compile 'xls': did you mean"):
    jit.compiled(lambda: None, 'xls')()


def test_auto_is_hybrid_for_text_where_there_are_units_for_bfloat16(tmp_path):
  def chosen(flags, dtype, trains=False, mode='auto'):
    cpu = tmp_path / 'cpuinfo'
    cpu.write_text(f'flags : fpu {flags} sse\n')
    return backend.resolve_mode(mode, dtype, trains, cpu)

  for units in ('amx_bf16', 'avx512_bf16'):
    assert chosen(f'avx2 {units} amx_tile', 'bfloat16') == 'hybrid'
    assert chosen(f'avx2 {units}', 'bfloat16', mode='graph') == 'graph'
    assert chosen(units, 'bfloat16', trains=True) == 'xla'
    assert chosen(units, 'float32') == 'xla'
  assert chosen('avx2 avx512f', 'bfloat16') == 'xla'
  none = tmp_path / 'none'
  assert backend.resolve_mode('auto', 'bfloat16', cpu=none) == 'xla'
