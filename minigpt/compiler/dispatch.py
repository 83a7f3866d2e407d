"""Operations: a definition each, and faster implementations of it.

A definition is an equation. It runs where no backend is declared: in eager
code, in a debugger, in a user's own `tf.function`. A function compiled by `jit`
declares its backend, and then the first registered implementation that supports
the arguments is traced in place of the definition.

Packages of implementations are plugins: they are imported by name when a
backend is first declared, so that the order of imports does not matter.
"""

import contextlib
import contextvars
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import tensorflow as tf

from minigpt.compiler import backend

P = ParamSpec('P')
R = TypeVar('R')

PLUGINS = ('minigpt.kernels',)
_named: contextvars.ContextVar[bool] = contextvars.ContextVar('named')


@contextlib.contextmanager
def name_scopes() -> Iterator[None]:
  """Gives each operation traced inside the context a name scope of its own.

  This only serves graphs that a person looks at, as in TensorBoard.
  """
  token = _named.set(True)
  try:
    yield
  finally:
    _named.reset(token)


def always(**arguments: Any) -> bool:
  """Returns True: the predicate of an implementation without restrictions."""
  return True


class Implementation(NamedTuple):
  """A function that may be traced in place of a definition."""

  backends: tuple[str, ...]
  supports: Callable[..., bool]
  function: Callable[..., Any]

  @property
  def name(self) -> str:
    """The name of the function."""
    return self.function.__name__


class Op(Generic[P, R]):
  """A definition, and the implementations that may be traced in its place.

  >>> @Op
  ... def square(x):
  ...   return x * x
  >>> @square.implementation('xla', supports=lambda x, **_: x.shape.rank == 2)
  ... def square_of_a_matrix(x): ...
  """

  registry: list['Op'] = []  # noqa: RUF012

  def __init__(self, definition: Callable[P, R]):
    self.definition = definition
    self._signature = inspect.signature(definition)
    self.overloads: list[Implementation] = []
    self.implementations: list[Implementation] = []
    functools.update_wrapper(self, definition)
    Op.registry.append(self)

  def overload(self, applies: Callable[..., bool]) -> Callable:
    """Registers a definition for another type of arguments.

    An example is weights with an adapter, or quantized ones. It runs with
    every backend, and in eager code.

    Args:
      applies: the predicate, called with all arguments by name.
    """
    return self._register(self.overloads, (), applies)

  def implementation(
    self, *backends: str, supports: Callable[..., bool] = always
  ) -> Callable:
    """Registers an implementation; a call runs the first that supports it.

    Args:
      backends: names of the backends that it is for.
      supports: the predicate, called with all arguments by name.
    """
    return self._register(self.implementations, backends, supports)

  def _register(self, where, backends, supports):
    def register(function: Callable) -> Callable:
      where.append(Implementation(backends, supports, function))
      return function

    return register

  def chosen(self, *args: P.args, **kwargs: P.kwargs) -> Callable[P, R]:
    """Returns the function that a call with these arguments runs."""
    name = backend.current().name
    if name != backend.EAGER:
      load_plugins()
    arguments = self.bound(*args, **kwargs)
    for other in self.overloads:
      if other.supports(**arguments):
        return other.function
    for kernel in self.implementations:
      if name in kernel.backends and kernel.supports(**arguments):
        return kernel.function
    return self.definition

  def bound(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
    """Returns the arguments of a call by name, including defaults."""
    found = self._signature.bind(*args, **kwargs)
    found.apply_defaults()
    return found.arguments

  def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs what `chosen` returns for these arguments."""
    function = self.chosen(*args, **kwargs)
    if not _named.get(False):
      return function(*args, **kwargs)
    with tf.name_scope(self.definition.__name__):
      return function(*args, **kwargs)


@functools.cache
def load_plugins() -> None:
  """Imports the packages that register implementations, once."""
  for name in PLUGINS:
    importlib.import_module(name)
