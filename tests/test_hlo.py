"""Runs the tests of optimized programs under the flags that users get."""

import os
import subprocess
import sys

import helpers


def test_optimized_programs():
  env = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  command = [sys.executable, '-m', 'pytest', '--numprocesses=0', 'tests/hlo']
  done = subprocess.run(
    command,
    cwd=helpers.ROOT,
    env=env | {'MINIGPT_TEST_HLO': '1'},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stdout
