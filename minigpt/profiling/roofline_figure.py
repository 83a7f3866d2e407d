"""The roofline as a figure: what bounds a workload, and how close it comes.

Source: Williams et al. 2009, figure 1. Both axes are logarithmic.
"""

import math
from typing import Any

import numpy as np

from minigpt.analysis import figures
from minigpt.profiling.roofline import Result, Roofline

_BESIDE = 6  # Margin at the left and right, as a factor.


def draw(measured: Result | Roofline, name: str, title: str) -> Any:
  """Draws the roofline of the machine, and a workload beneath it.

  Args:
    measured: a workload's result, or the roofline alone.
    name: of the workload.
    title: of the figure; it names the machine.

  Returns:
    A matplotlib figure.

  Raises:
    InputError: matplotlib is not installed.
  """
  figure = figures.new_figure(7, 4.5)
  axes = figure.subplots()
  axes.set_xscale('log')
  axes.set_yscale('log')
  limits = measured.limits if isinstance(measured, Result) else measured
  result = measured if isinstance(measured, Result) else None
  ridge = limits.flops / limits.bandwidth
  shown = [ridge, result.intensity if result else ridge]
  left, right = min(shown) / _BESIDE, max(shown) * _BESIDE
  _draw_roof(axes, limits, left, right)
  if result:
    _draw_result(axes, result, name)
  axes.set_xlim(left, right)
  axes.set_title(figures.plain(title), fontsize=10)
  axes.set_xlabel('operations for each byte moved')
  axes.set_ylabel('GFLOP/s')
  axes.grid(alpha=0.3)
  for axis in (axes.xaxis, axes.yaxis):
    figures.write_numbers_out(axis)
  return figure


def _draw_roof(axes: Any, limits: Roofline, left: float, right: float) -> None:
  """Draws the two peak rates, each with its number."""
  peak, bandwidth = limits.flops / 1e9, limits.bandwidth / 1e9
  x = np.array([left, peak / bandwidth, right])
  axes.plot(x, np.minimum(bandwidth * x, peak), color='black')
  start = left * (right / left) ** 0.03
  axes.text(
    start,
    bandwidth * start * 1.1,
    f'memory: {bandwidth:,.3g} GB/s',
    rotation=math.degrees(math.atan(bandwidth)),
    transform_rotates_text=True,
    rotation_mode='anchor',
    va='bottom',
    fontsize=9,
  )
  axes.text(
    right / 1.1,
    peak * 1.1,
    f'matmuls: {peak:,.3g} GFLOP/s',
    ha='right',
    fontsize=9,
  )
  # Leave room for the labels above, and for the results below.
  axes.set_ylim(bandwidth * left / 3, peak * 3)


def _draw_result(axes: Any, result: Result, name: str) -> None:
  """Draws a workload: its median, from its slowest to its fastest call."""

  def gflops(ms: float) -> float:
    return result.gflop_per_unit / ms * 1e3

  rate = gflops(result.ms_per_unit)
  spread = [
    [rate - gflops(result.highest_ms)],
    [gflops(result.lowest_ms) - rate],
  ]
  peak, bandwidth = result.roofline_gflops, result.roofline_gbytes_per_s
  intensity = result.intensity
  roof = min(peak, bandwidth * intensity)
  bound = 'matmuls' if roof == peak else 'memory'
  axes.plot([intensity] * 2, [rate, roof], color='C0', linestyle=':')
  axes.errorbar([intensity], [rate], spread, fmt='o', color='C0', capsize=4)
  # Right of the ridge, the label has room only on the left.
  ha, offset = ('left', 8) if bound == 'memory' else ('right', -8)
  axes.annotate(
    f'{name}: {rate:,.3g} GFLOP/s,\n{result.share_of_roofline:.0%} of the '
    f'roofline, bound by {bound}',
    (intensity, min(rate, roof)),
    (offset, -8),
    textcoords='offset points',
    va='top',
    ha=ha,
    fontsize=9,
  )
  axes.set_ylim(bottom=min(axes.get_ylim()[0], gflops(result.highest_ms) / 6))
