"""Options of an export; needs no TensorFlow, so that flags can use it."""

from collections.abc import Callable
from typing import NamedTuple

from minigpt.config import SERVED_DTYPES, STORED_WEIGHTS
from minigpt.errors import UsageError, unknown
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request

# Limits far above useful values. Every answer has a buffer for the longest one,
# and a server computes a warm-up batch of each size when it starts.
_MOST_NEW_TOKENS = 2**20
_MOST_ROWS = 2**16


class Options(NamedTuple):
  """Options of an export; `check` raises UsageError for invalid values."""

  weights: str = 'float32'
  max_new_tokens_limit: int = 256
  stop: tuple[str, ...] = ()
  batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
  eval_batches: int = 20  # to measure the loss of smaller weights; 0: all
  xla: bool = False
  attention: bool = False  # also export the signature `attention`
  compute_dtype: str = 'auto'  # of the matmuls with weights; see `chosen_dtype`
  grammars: tuple[Grammar, ...] = ()  # those that requests can name

  def check(self) -> 'Options':
    """Returns the options in normal form, or raises UsageError."""
    self._check_compute_dtype()
    if self.weights not in STORED_WEIGHTS:
      raise unknown('weights', self.weights, STORED_WEIGHTS)
    if not 1 <= self.max_new_tokens_limit <= _MOST_NEW_TOKENS:
      raise UsageError(
        f'max_new_tokens_limit={self.max_new_tokens_limit}: it must lie in '
        f'[1, {_MOST_NEW_TOKENS}]'
      )
    sizes = [n for n in self.batch_sizes if 0 < n <= _MOST_ROWS]
    if not sizes or list(self.batch_sizes) != sorted(set(sizes)):
      raise UsageError(
        f'batch_sizes={",".join(map(str, self.batch_sizes)):.60}: give at '
        f'least one; they must lie in [1, {_MOST_ROWS}] and rise'
      )
    if self.eval_batches < 0:
      raise UsageError(
        f'eval_batches={self.eval_batches}: it must be 0 or more'
      )
    # In normal form, a single stop string is a tuple, and weights are stored in
    # the dtype of the matmuls.
    stop = Request(stop=self.stop).check().stop
    is_free = self.compute_dtype in ('auto', 'float32')
    weights = self.weights if is_free else self.compute_dtype
    return self._replace(stop=tuple(stop), weights=weights)

  def chosen_dtype(self, has_int8: Callable[[], bool]) -> str:
    """Returns the dtype of matmuls; 'auto' means int8 if the weights are int8.

    Args:
      has_int8: tells whether TensorFlow's kernels multiply int8 here; called
        only where that matters.
    """
    if self.compute_dtype != 'auto':
      return self.compute_dtype
    is_int8 = self.weights == 'int8' and not self.xla
    return 'int8' if is_int8 and has_int8() else 'float32'

  def _check_compute_dtype(self):
    if self.compute_dtype not in ('auto', *SERVED_DTYPES):
      raise unknown('compute_dtype', self.compute_dtype, SERVED_DTYPES)
    if self.compute_dtype in ('auto', 'float32'):
      return
    if self.weights not in ('float32', self.compute_dtype):
      raise UsageError(
        f'compute_dtype={self.compute_dtype}: weights={self.weights} compute '
        f'in {self.weights} or float32; leave one of them out'
      )
    if self.xla:
      raise UsageError(
        f'compute_dtype={self.compute_dtype}: it is for servers without XLA; '
        'leave --xla out'
      )
