"""What GNU's allocator does with large blocks of memory that are freed.

As it comes, it gives each back to the system at once, and the system fills
every page with zeros when it hands it out again. A training step takes and
frees gigabytes.
"""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep() -> None:
  """From now on, freed memory stays with the program and serves again."""
  with contextlib.suppress(AttributeError):  # Another C library.
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def give_back() -> None:
  """Returns to the system what is free now, as after XLA has compiled."""
  with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).malloc_trim(0)
