"""The figure of the roofline: positions of its lines and its point."""

import numpy as np
import pytest

from minigpt.profiling import roofline_figure
from minigpt.profiling.roofline import Result, Roofline

pytest.importorskip('matplotlib')


def make_result(gflop, gbyte, ms, share):
  return Result(
    unit='token',
    ms_per_unit=ms,
    lowest_ms=ms / 2,
    highest_ms=2 * ms,
    tokens_per_s=1.0,
    compile_s=1.0,
    n_compiled=1,
    peak_mib=1.0,
    gflop_per_unit=gflop,
    gbyte_per_unit=gbyte,
    roofline_gflops=100.0,
    roofline_gbytes_per_s=20.0,
    share_of_roofline=share,
    note='',
  )


def draw(measured):
  return roofline_figure.draw(measured, 'decode', 'a machine').axes[0]


def texts(axes):
  return [text.get_text() for text in axes.texts]


def test_a_workload_lies_below_what_bounds_it():
  # 0.5 operations a byte: memory allows 10 GFLOP/s; it takes twice the time.
  axes = draw(make_result(gflop=1.0, gbyte=2.0, ms=200.0, share=0.5))
  roof, gap, point, *_ = axes.get_lines()
  x, y = roof.get_data()
  np.testing.assert_allclose(y, np.minimum(20 * x, 100))
  assert x[1] == 5  # The ridge.
  assert gap.get_xydata().tolist() == [[0.5, 5], [0.5, 10]]
  assert point.get_xydata().tolist() == [[0.5, 5]]
  # Its fastest call took half of the time, its slowest twice as much.
  [bars] = axes.collections
  np.testing.assert_allclose(bars.get_segments()[0], [[0.5, 2.5], [0.5, 10]])
  said = 'decode: 5 GFLOP/s,\n50% of the roofline, bound by memory'
  assert texts(axes) == ['memory: 20 GB/s', 'matmuls: 100 GFLOP/s', said]
  for (low, high), value in ((axes.get_xlim(), 0.5), (axes.get_ylim(), 2.5)):
    assert low < value < high


def test_matmuls_bound_what_moves_little():
  axes = draw(make_result(gflop=10.0, gbyte=1.0, ms=125.0, share=0.8))
  assert 'bound by matmuls' in texts(axes)[2]


def test_a_machine_can_be_drawn_alone():
  axes = draw(Roofline(flops=1e11, bandwidth=2e10))
  assert len(axes.get_lines()) == 1 and len(texts(axes)) == 2
