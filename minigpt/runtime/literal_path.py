r"""Works around paths that TensorFlow takes for glob patterns.

TensorFlow's checkpoint readers (2.21, `RestoreV2` and
`tf.train.load_checkpoint`) treat a path as a glob pattern, without a way to
escape it. So they cannot find a checkpoint in a folder such as `a[1]` or `a\b`,
although TensorFlow can write it there.
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
  """Tells whether TensorFlow may take the path for a pattern."""
  return not _MAGIC.isdisjoint(os.path.abspath(path))


@contextlib.contextmanager
def literal_path(folder: Path) -> Iterator[Path]:
  """Yields a path to the folder that TensorFlow reads correctly.

  It is the folder itself, or else a temporary symbolic link, which exists only
  inside the context.

  Raises:
    InputError: the link cannot be created.
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
