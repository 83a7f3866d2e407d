r"""Paths that TensorFlow reads as they are.

Its readers of checkpoints look for the path as a pattern first and open it by
its letters then, so a folder `a[1]` or `a\b`, which they have written, does not
exist for them, and there is no way to escape it (2.21, `RestoreV2` and
`tf.train.load_checkpoint`).
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from minigpt.errors import InputError
from minigpt.runtime.atomic_io import reason

_MAGIC = frozenset('*?[\\')


def is_pattern(path: str | Path) -> bool:
  """Tells whether TensorFlow may take a path for a pattern."""
  return not _MAGIC.isdisjoint(os.path.abspath(path))


@contextlib.contextmanager
def literal_path(folder: Path) -> Iterator[Path]:
  """Yields the folder, or where its path is a pattern a link that leads there.

  What is read through it must be read before the end.

  Raises:
    InputError: there is no room for temporary files.
  """
  with contextlib.ExitStack() as stack:
    if is_pattern(folder):
      folder = _link(stack, folder)
    yield folder


def _link(stack: contextlib.ExitStack, folder: Path) -> Path:
  try:
    scratch = stack.enter_context(tempfile.TemporaryDirectory())
    link = Path(scratch, 'link')
    link.symlink_to(os.path.abspath(folder))
  except OSError as error:
    raise InputError(
      f'{folder} cannot be read: TensorFlow takes its path for a pattern, and '
      f'no link to it could be made ({reason(error)}); rename it'
    ) from None
  return link
