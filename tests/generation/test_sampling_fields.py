"""The table of sampling options means the same in Python and in graphs."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, Range

RANGES = {
  'max_new_tokens': ('must be 1 or more', [1, 2**30], [0, -1]),
  'temperature': ('must be 0 or more', [0, 9.0], [-0.1, np.inf, np.nan]),
  'top_k': ('must be 0 or more', [0, 2**30], [-1]),
  'top_p': ('must lie in (0, 1]', [1e-6, 1], [0, 1.1, np.nan]),
  'repetition_penalty': (
    'must lie in [0.01, 100]',
    [0.01, 100],
    [0, 100.1, np.nan],
  ),
  'min_p': ('must lie in [0, 1]', [0, 1], [-0.1, 1.1, np.nan]),
  'min_new_tokens': ('must lie between 0 and max_new_tokens', [0, 6], [-1, 7]),
}


@pytest.mark.parametrize('name', RANGES)
def test_ranges_of_numbers_and_of_tensors(name):
  rule, inside, outside = RANGES[name]
  field = SAMPLING_FIELDS[name]
  assert field.range.rule == rule
  options = Request(max_new_tokens=6)
  wanted = [True] * len(inside) + [False] * len(outside)
  values = inside + outside
  assert [field.accepts(v, vars(options)) for v in values] == wanted
  tensors = {k: tf.constant(v) for k, v in options.options(1).items()}
  found = field.accepts(tf.constant(values, field.dtype), tensors)
  assert found.numpy().tolist() == wanted


def test_every_option_with_a_range_is_in_this_file():
  """A new option must be added here, with accepted values."""
  limited = {name for name, field in SAMPLING_FIELDS.items() if field.range}
  assert limited == set(RANGES)


def test_defaults_and_examples_are_valid_and_differ():
  options = {name: field.example for name, field in SAMPLING_FIELDS.items()}
  Request().check()
  Request(**options).check()
  for name, field in SAMPLING_FIELDS.items():
    assert field.default != field.example, name


def test_a_range_of_whole_numbers_is_said_without_fractions():
  assert Range(1, 20).rule == 'must lie in [1, 20]'


def test_the_table_is_read_without_tensorflow():
  code = (
    "import sys; sys.modules['tensorflow'] = None\n"
    'import minigpt.generation.sampling_fields'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
