"""How a model is exported; without TensorFlow, so that flags come of it."""

from typing import NamedTuple

from minigpt.config import COMPUTE_DTYPES, STORED_WEIGHTS
from minigpt.errors import UsageError, unknown
from minigpt.generation.grammar import Grammar
from minigpt.generation.request import Request

# Limits of what is allowed, far above what is of use. An answer's buffer has
# room for the longest, and a batch is made for each size when a server starts.
_MOST_NEW_TOKENS = 2**20
_MOST_ROWS = 2**16


class Options(NamedTuple):
  """How a model is exported.

  Raises UsageError from `check` where a value is out of its range.
  """

  weights: str = 'float32'
  max_new_tokens_limit: int = 256
  stop: tuple[str, ...] = ()
  batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
  eval_batches: int = 20  # batches for the cost of smaller weights; 0: all
  xla: bool = False
  attention: bool = False  # also export the signature `attention`
  compute_dtype: str = 'float32'  # of the matmuls with weights
  grammars: tuple[Grammar, ...] = ()  # that a request can name

  def check(self) -> 'Options':
    """Returns the options as they are carried out, or raises UsageError."""
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
    # A lone stop is a tuple of one, and weights are kept as they multiply.
    stop = Request(stop=self.stop).check().stop
    is_wide = self.compute_dtype == 'float32'
    weights = self.weights if is_wide else self.compute_dtype
    return self._replace(stop=tuple(stop), weights=weights)

  def _check_compute_dtype(self):
    if self.compute_dtype not in COMPUTE_DTYPES:
      raise unknown('compute_dtype', self.compute_dtype, COMPUTE_DTYPES)
    if self.compute_dtype == 'float32':
      return
    if self.weights not in COMPUTE_DTYPES:
      raise UsageError(
        f'compute_dtype={self.compute_dtype}: weights={self.weights} compute '
        'in float32; leave one of them out'
      )
    if self.xla:
      raise UsageError(
        f'compute_dtype={self.compute_dtype}: it is for servers without XLA; '
        'leave --xla out'
      )
