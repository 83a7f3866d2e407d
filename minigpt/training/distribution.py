"""Several processes, or several devices of one, that train one model.

The engine is `tf.distribute`: MultiWorkerMirroredStrategy where TF_CONFIG
names a cluster, MirroredStrategy where one machine has several GPUs. Every
replica holds the whole state and makes the gradient of its rows of each
batch; gradients are reduced over all replicas, and each makes the same update.
The gradient and the update are one program each; the reduction stands between
them.

Shapes: K steps in a call, A accumulated gradients, B batch, T context.
"""

import contextlib
import copy
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.checkpoints import checkpoint
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.sequence_packing import PackedBatch
from minigpt.errors import InputError, UsageError
from minigpt.training.step import (
  Batch,
  StepMetrics,
  TrainState,
  compiled_gradients,
  compiled_train_steps,
  compiled_update,
)

_SUM, _MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN
# What a collective raises when a process that it needs is gone.
_LOST = (
  tf.errors.UnavailableError,
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
)


class Cluster(NamedTuple):
  """The workers of a run by their addresses, the chief first."""

  addresses: tuple[str, ...]  # host:port
  index: int  # of this process


def read_cluster(text: str) -> Cluster | None:
  """Reads TF_CONFIG; None where it names no cluster, or one of one worker.

  Raises:
    UsageError: it is malformed, or asks for more than chief and workers.
  """
  if not text:
    return None
  try:
    cluster = _cluster(json.loads(text))
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
  ) as error:
    raise UsageError(
      f'TF_CONFIG is malformed ({type(error).__name__}: {error}); it looks '
      'like {"cluster": {"worker": ["host:port", ...]}, '
      '"task": {"type": "worker", "index": 0}}'
    ) from None
  return cluster if len(cluster.addresses) > 1 else None


def _cluster(fields: dict[str, Any]) -> Cluster:
  jobs, task = fields['cluster'], fields['task']
  if foreign := set(jobs) - {'chief', 'worker'}:
    raise ValueError(f'it has tasks of type {min(foreign)!r}')
  tasks = {
    (job, i): _checked(address)
    for job in ('chief', 'worker')
    for i, address in enumerate(jobs.get(job, []))
  }
  if len(set(tasks.values())) < len(tasks):
    raise ValueError('two tasks have the same address')
  if (task['type'], task['index']) not in tasks:
    raise ValueError(f'no task {task["type"]} {task["index"]} in its cluster')
  index = list(tasks).index((task['type'], task['index']))
  return Cluster(tuple(tasks.values()), index)


def _checked(address: str) -> str:
  host, _, port = address.rpartition(':')
  if not host or not 0 < int(port) < 1 << 16:
    raise ValueError(f'{address!r} is not host:port')
  return address


class Alone:
  """One process with one device: there is nobody to agree with."""

  is_chief = True

  def check(self, recipe: TrainConfig) -> None:
    """Raises UsageError where the batch cannot be shared evenly."""

  @contextlib.contextmanager
  def watched(self, checkpoints: Path) -> Iterator[None]:
    """Turns the loss of another worker into an InputError."""
    yield

  def train_steps(
    self, state: TrainState, config: GPTConfig, recipe: TrainConfig
  ) -> Callable[[Batch, np.int32], StepMetrics]:
    """The first `n` of K steps; n = 0 only compiles."""
    return compiled_train_steps(state, config, recipe)

  def share(self, state: TrainState) -> None:
    """Gives every replica the state of the chief."""

  def share_of(self, batches: Iterable) -> Iterable:
    """What this worker does of work that all do together."""
    return batches

  def total(self, values: np.ndarray) -> np.ndarray:
    """The sum over all workers."""
    return values

  def from_chief(self, values: np.ndarray) -> np.ndarray:
    return values

  def agree(self, number: int) -> int:
    """The highest of the workers' numbers; returns when all have asked."""
    return number


ALONE = Alone()


class Workers(Alone):
  """This process among those of a `tf.distribute` strategy."""

  def __init__(
    self, strategy: tf.distribute.Strategy, index: int = 0, size: int = 1
  ):
    """`size` processes, this one at `index`; the chief has 0."""
    self.index = index
    self.size = size
    self.is_chief = index == 0
    self._strategy = strategy
    self._states = []  # one for each replica in this process
    self._reduce = tf.function(
      self._reduced, autograph=False, reduce_retracing=True
    )

  @property
  def n_replicas(self) -> int:
    return self._strategy.num_replicas_in_sync

  @property
  def _n_local(self) -> int:
    return self.n_replicas // self.size

  def check(self, recipe: TrainConfig) -> None:
    if recipe.batch_size % self.n_replicas:
      raise UsageError(
        f'batch_size={recipe.batch_size} cannot be shared evenly by '
        f'{self.n_replicas} workers; choose a multiple of {self.n_replicas}'
      )

  @contextlib.contextmanager
  def watched(self, checkpoints: Path) -> Iterator[None]:
    try:
      yield
    except _LOST:
      found = checkpoint.list_checkpoints(checkpoints)
      last = f'the last one is {found[-1].path}' if found else 'there is none'
      raise InputError(
        f'worker {self.index} of {self.size} lost contact with another, so '
        'training stopped; start all of them again, and they continue from '
        f'the last checkpoint ({last})'
      ) from None

  def train_steps(self, state, config, recipe):
    self._states = [state, *self._twins(state)]
    gradients = [compiled_gradients(s, config, recipe) for s in self._states]
    updates = [compiled_update(s, config, recipe) for s in self._states]

    def on_replica(windows, moves):
      context, replica, here = self._place()
      part = self._rows(windows, replica)
      loss, grads = gradients[here](part, tf.constant(replica))
      # Weights of packed rows already count the targets of the whole batch.
      op = _SUM if isinstance(windows, PackedBatch) else _MEAN
      loss, *grads = context.all_reduce(op, [loss, *grads])
      return tf.cond(
        moves,
        lambda: updates[here](loss, grads),
        lambda: StepMetrics(loss, loss, loss),
      )

    @tf.function(autograph=False)
    def step(windows, moves):  # int [A, B, T + 1], bool [] -> []
      return self._strategy.run(on_replica, args=(windows, moves))

    def train_steps(windows, n):  # int [K, A, B, T + 1], int [] -> [n]
      made = [
        self._local(step(_at(windows, i), tf.constant(i < n)))
        for i in range(max(n, 1))
      ]
      return tf.nest.map_structure(lambda *steps: tf.stack(steps), *made)

    return train_steps

  def _place(self) -> tuple[tf.distribute.ReplicaContext, int, int]:
    """The number of this replica among all, and in its process."""
    context = tf.distribute.get_replica_context()
    replica = int(tf.get_static_value(context.replica_id_in_sync_group))
    return context, replica, replica % self._n_local

  def _rows(self, windows: Batch, replica: int) -> Batch:
    """[A, B, ...] -> [A, B / replicas, ...]."""

    def rows(part):
      n = part.shape[1] // self.n_replicas
      return part[:, replica * n : (replica + 1) * n]

    return tf.nest.map_structure(rows, windows)

  def _twins(self, state: TrainState) -> Iterator[TrainState]:
    """A state like `state` on each further device of this process."""
    for device in self._strategy.extended.worker_devices[1:]:
      twin = copy.copy(state)
      with tf.device(device):
        for name, tree in _trees(state).items():
          setattr(twin, name, tf.nest.map_structure(tf.Variable, tree))
      yield twin

  def _local(self, per_replica: Any) -> Any:
    return tf.nest.map_structure(
      lambda x: self._strategy.experimental_local_results(x)[0], per_replica
    )

  def _reduced(self, values: tf.Tensor) -> Any:  # [n] -> [n]
    def on_replica(values):
      context, _, here = self._place()
      given = values if here == 0 else tf.zeros_like(values)
      return context.all_reduce(_SUM, tf.identity(given))

    return self._strategy.run(on_replica, args=(values,))

  def share(self, state: TrainState) -> None:
    if self.size > 1:
      for variable in tf.nest.flatten(_trees(state)):
        self._share_variable(variable)
    for twin in self._states[1:]:
      tf.nest.map_structure(
        lambda to, of: to.assign(of), _trees(twin), _trees(state)
      )

  def _share_variable(self, variable: tf.Variable) -> None:
    # As integers: the sum of -0. and 0. is 0., another number to the bit.
    bits = tf.bitcast(variable, tf.int32)
    mine = bits if self.is_chief else tf.zeros_like(bits)
    all_ = self._local(self._reduce(tf.reshape(mine, [-1])))
    variable.assign(tf.bitcast(tf.reshape(all_, bits.shape), variable.dtype))

  def share_of(self, batches: Iterable) -> Iterable:
    return itertools.islice(batches, self.index, None, self.size)

  def total(self, values: np.ndarray) -> np.ndarray:
    if self.size == 1:
      return values
    return self._local(self._reduce(tf.constant(values))).numpy()

  def from_chief(self, values: np.ndarray) -> np.ndarray:
    return self.total(values if self.is_chief else np.zeros_like(values))

  def agree(self, number: int) -> int:
    mine = np.arange(self.size) == self.index
    return int(self.total(np.where(mine, number, 0).astype(np.int32)).max())


def _at(windows: Batch, i: int) -> Batch:
  return tf.nest.map_structure(lambda part: tf.constant(part[i]), windows)


def _trees(state: TrainState) -> dict[str, Any]:
  return {'frozen': state.frozen, **state.parts()}


def connect() -> Alone | Workers:
  """Joins the other workers that TF_CONFIG names, and waits for them.

  It must come before anything that TensorFlow computes.

  Raises:
    UsageError: TF_CONFIG is malformed.
    InputError: the address of this worker is taken, or not of this machine.
  """
  cluster = read_cluster(os.environ.get('TF_CONFIG', ''))
  if cluster:
    return _join(cluster)
  if len(tf.config.list_physical_devices('GPU')) > 1:
    return Workers(tf.distribute.MirroredStrategy())
  return ALONE


def _join(cluster: Cluster) -> Workers:
  address, size = cluster.addresses[cluster.index], len(cluster.addresses)
  _check_port(address)
  print(f'waiting for {size} workers, of which this is {cluster.index} ...')
  try:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  except (tf.errors.OpError, RuntimeError) as error:
    raise InputError(
      f'worker {cluster.index} at {address} could not join the others '
      f'({str(error).splitlines()[0]}); check TF_CONFIG on every machine'
    ) from None
  return Workers(strategy, cluster.index, size)


def _check_port(address: str) -> None:
  port = int(address.rpartition(':')[2])
  with socket.socket() as probe:
    # Not what closed connections still hold, only what listens.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      probe.bind(('', port))
    except OSError as error:
      raise InputError(
        f'{address}: port {port} cannot be opened ({error.strerror}); end what '
        'uses it, or name another in TF_CONFIG'
      ) from None
