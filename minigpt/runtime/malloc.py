"""Settings of the GNU allocator, malloc, for large blocks.

By default, malloc returns a large freed block to the system at once. A training
step frees and allocates gigabytes, and the system would have to fill all their
pages with zeros again.
"""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
# Errors with another C library, and on Windows, where CDLL(None) fails.
_OTHER_LIBRARY = (AttributeError, TypeError)


def keep_freed_memory() -> None:
  """Makes malloc keep freed memory for later allocations."""
  with contextlib.suppress(*_OTHER_LIBRARY):
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def trim() -> None:
  """Returns free memory to the system, as after XLA has compiled."""
  with contextlib.suppress(*_OTHER_LIBRARY):
    ctypes.CDLL(None).malloc_trim(0)
