"""Settings of the allocator, in a process of their own."""

import subprocess
import sys

_COUNT = """
import resource
import numpy as np
from minigpt.runtime import malloc

malloc.keep_freed_memory()


def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(2**23)  # 64 MiB, which are 16,384 pages
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
  pages = open('/proc/self/statm').read().split()[1]
  return int(pages) * resource.getpagesize() / 2**20


faults()
print(faults())
kept = resident()
malloc.trim()
print(kept - resident())
"""


def test_freed_memory_serves_again_until_it_is_given_back():
  answer = subprocess.run(
    [sys.executable, '-c', _COUNT], capture_output=True, text=True, timeout=60
  )
  assert not answer.stderr
  n_faults, mebibytes = map(float, answer.stdout.split())
  assert n_faults < 1000
  assert mebibytes > 50
