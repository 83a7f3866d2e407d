"""Runs the tests of optimized programs with the XLA flags of users."""

import helpers

# Run in a fork of a process that has imported TensorFlow but compiled nothing.
TESTS = """
import os, sys
import pytest
del os.environ['XLA_FLAGS']
os.environ['MINIGPT_TEST_HLO'] = '1'
sys.exit(pytest.main(['--numprocesses=0', 'tests/hlo']))
"""


def test_optimized_programs():
  done = helpers.run('-c', TESTS)
  assert done.returncode == 0, done.stdout
  assert 'passed' in done.stdout and 'no tests ran' not in done.stdout
