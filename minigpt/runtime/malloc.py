"""How GNU's allocator treats large blocks of memory that are freed.

By default it returns each to the system at once, and the system fills every
page with zeros when it is allocated again. A training step allocates and frees
gigabytes.
"""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
# Of another C library, and of Windows, which has no such handle.
_OTHER_LIBRARY = (AttributeError, TypeError)


def keep_freed_memory() -> None:
  """Makes freed memory stay with the process, to be allocated again."""
  with contextlib.suppress(*_OTHER_LIBRARY):
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)


def trim() -> None:
  """Returns to the system what is free now, as after XLA has compiled."""
  with contextlib.suppress(*_OTHER_LIBRARY):
    ctypes.CDLL(None).malloc_trim(0)
