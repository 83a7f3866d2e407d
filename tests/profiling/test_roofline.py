"""The machine's rates, and a workload's share of them."""

import pytest

from minigpt.kernels.quantize import W8A8, Quantized, quantize
from minigpt.profiling import roofline
from minigpt.profiling.timing import Timing
from minigpt.profiling.workloads import Workload


def test_the_rate_is_that_of_matmuls_with_such_weights(monkeypatch):
  made = []

  def spy(layer, weights):
    made.append(quantize(layer, weights))
    return made[-1]

  monkeypatch.setattr(roofline, 'quantize', spy)
  for weights, kinds in (
    ('bfloat16', []),
    ('int8', [Quantized]),
    ('w8a8', [W8A8]),
  ):
    made.clear()
    limits = roofline.measure_roofline('float32', 1, weights, n=64)
    assert [type(layer.w) for layer in made] == kinds
    assert min(limits) > 0


class Function:
  def experimental_get_tracing_count(self):
    return 1


def test_the_slower_of_operations_and_bytes_is_the_limit():
  workload = Workload(
    Function(),
    {'n': 2},
    variables={},
    results=(),
    unit='token',
    n_units=2,
    n_tokens=4,
    flops=6.0,
    bytes=4.0,
  )
  timing = Timing(117, 9, 7, 16, 2048)
  found = roofline.compare(workload, timing, roofline.Roofline(3.0, 1.0))
  assert found.ms_per_unit == 4500
  assert (found.lowest_ms, found.highest_ms) == (3500, 8000)
  assert found.tokens_per_s == pytest.approx(4 / 9)
  assert (found.gflop_per_unit, found.gbyte_per_unit) == (3e-9, 2e-9)
  assert found.compile_s == 117
  assert found.peak_mib == 2
  assert found.share_of_roofline == pytest.approx(4 / 9)  # Bound by bytes.
  found = roofline.compare(workload, timing, roofline.Roofline(1.0, 1.0))
  assert found.share_of_roofline == pytest.approx(6 / 9)  # Bound by operations.
  assert found.note == ''


def test_a_share_above_one_is_explained():
  workload = Workload(
    Function(),
    {},
    {},
    results=(),
    unit='step',
    n_units=1,
    n_tokens=1,
    flops=6.0,
    bytes=4.0,
  )
  timing = Timing(1, 2, 2, 2, 1)
  found = roofline.compare(workload, timing, roofline.Roofline(1.0, 1.0))
  assert found.share_of_roofline == 3
  assert 'faster than the roofline' in found.note
