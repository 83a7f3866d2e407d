"""Data-parallel training on several machines or several GPUs.

It uses `tf.distribute`: MultiWorkerMirroredStrategy where TF_CONFIG names a
cluster, MirroredStrategy where one machine has several GPUs. Every replica
holds the whole state and computes the gradient of its shard of each batch.
Gradients are reduced over all replicas, and each makes the same update. The
gradient and the update are two compiled programs, with the reduction between.

Shapes: K steps in a call, A accumulated gradients, B batch, T context.
"""

import contextlib
import copy
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.checkpoints import checkpoint
from minigpt.config import GPTConfig, TrainConfig
from minigpt.data.sequence_packing import PackedBatch
from minigpt.errors import InputError, UsageError
from minigpt.training import rendezvous
from minigpt.training.cluster import Cluster, check_port, read_cluster
from minigpt.training.metrics import say
from minigpt.training.single_worker import SingleWorker, TrainSteps
from minigpt.training.state import TrainState
from minigpt.training.step import (
  Batch,
  StepMetrics,
  compiled_gradients,
  compiled_update,
)

_SUM, _MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN
# Errors that a collective operation raises when another process is gone.
_LOST = (
  tf.errors.UnavailableError,
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
)


class MultiWorker(SingleWorker):
  """One process of a `tf.distribute` strategy."""

  def __init__(
    self, strategy: tf.distribute.Strategy, index: int = 0, size: int = 1
  ):
    """Represents process `index` of `size`; the chief has index 0."""
    self.index = index
    self.size = size
    self.is_chief = index == 0
    self._strategy = strategy
    self._states: list[TrainState] = []  # one for each replica in this process
    self._reduce = tf.function(
      self._all_reduce, autograph=False, reduce_retracing=True
    )

  @property
  def n_replicas(self) -> int:
    """Counts the devices of all workers."""
    return self._strategy.num_replicas_in_sync

  @property
  def _n_local(self) -> int:
    return self.n_replicas // self.size

  def check_batch_size(self, recipe: TrainConfig) -> None:
    """Raises UsageError if the batch cannot be split evenly over workers."""
    if recipe.batch_size % self.n_replicas:
      raise UsageError(
        f'batch_size={recipe.batch_size} cannot be shared evenly by '
        f'{self.n_replicas} workers; choose a multiple of {self.n_replicas}'
      )

  @contextlib.contextmanager
  def lost_worker_is_an_error(self, checkpoints: Path) -> Iterator[None]:
    """Turns the loss of another worker into an InputError."""
    try:
      yield
    except _LOST:
      found = checkpoint.list_checkpoints(checkpoints)
      last = f'the last one is {found[-1].path}' if found else 'there is none'
      raise InputError(
        f'worker {self.index} of {self.size} lost contact with another, so '
        'training stopped; restart all workers, and they continue from '
        f'the last checkpoint ({last})'
      ) from None

  def train_steps(
    self, state: TrainState, config: GPTConfig, recipe: TrainConfig
  ) -> TrainSteps:
    """Compiles gradient and update, with a reduction between them."""
    self._states = [state, *self._copies(state)]
    gradients = [compiled_gradients(s, config, recipe) for s in self._states]
    updates = [compiled_update(s, config, recipe) for s in self._states]

    def on_replica(windows, moves):
      context, replica, here = self._replica()
      shard = self._replica_shard(windows, replica)
      loss, grads = gradients[here](shard, tf.constant(replica))
      # The weights of packed rows are already shares of the whole batch.
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

  def _replica(self) -> tuple[tf.distribute.ReplicaContext, int, int]:
    """Returns a replica's context, its index, and its index in the process."""
    context = tf.distribute.get_replica_context()
    replica = int(tf.get_static_value(context.replica_id_in_sync_group))
    return context, replica, replica % self._n_local

  def _replica_shard(self, windows: Batch, replica: int) -> Batch:
    """Cuts [A, B, ...] into [A, B / replicas, ...]."""

    def shard(part):
      n = part.shape[1] // self.n_replicas
      return part[:, replica * n : (replica + 1) * n]

    return tf.nest.map_structure(shard, windows)

  def _copies(self, state: TrainState) -> Iterator[TrainState]:
    """Copies the state to each further device of this process."""
    for device in self._strategy.extended.worker_devices[1:]:
      twin = copy.copy(state)
      with tf.device(device):
        for name, tree in _trees(state).items():
          setattr(twin, name, tf.nest.map_structure(tf.Variable, tree))
      yield twin

  def _local(self, per_replica: Any) -> Any:
    """Returns what the first replica of this process computed."""
    return tf.nest.map_structure(
      lambda x: self._strategy.experimental_local_results(x)[0], per_replica
    )

  def _all_reduce(self, values: tf.Tensor) -> Any:  # [n] -> [n]
    def on_replica(values):
      context, _, here = self._replica()
      # The first replica of a process contributes its value, the others zero.
      mine = values if here == 0 else tf.zeros_like(values)
      return context.all_reduce(_SUM, tf.identity(mine))

    return self._strategy.run(on_replica, args=(values,))

  def broadcast_state(self, state: TrainState) -> None:
    """Gives every replica the state of the chief."""
    if self.size > 1:
      for variable in tf.nest.flatten(_trees(state)):
        self._broadcast_variable(variable)
    for twin in self._states[1:]:
      tf.nest.map_structure(
        lambda to, of: to.assign(of), _trees(twin), _trees(state)
      )

  def _broadcast_variable(self, variable: tf.Variable) -> None:
    # Sum integers: as floats, -0. + 0. is 0., which changes a bit.
    bits = tf.bitcast(variable, tf.int32)
    mine = bits if self.is_chief else tf.zeros_like(bits)
    all_ = self._local(self._reduce(tf.reshape(mine, [-1])))
    variable.assign(tf.bitcast(tf.reshape(all_, bits.shape), variable.dtype))

  def shard(self, batches: Iterable[Any]) -> Iterable[Any]:
    """Returns every `size`-th batch."""
    return itertools.islice(batches, self.index, None, self.size)

  def reduce_sum(self, values: np.ndarray) -> np.ndarray:
    """Adds the values of all workers."""
    if self.size == 1:
      return values
    return self._local(self._reduce(tf.constant(values))).numpy()

  def broadcast(self, values: np.ndarray) -> np.ndarray:
    """Returns the values of the chief."""
    return self.reduce_sum(values if self.is_chief else np.zeros_like(values))

  def reduce_max(self, number: int) -> int:
    """Returns the highest of all workers' numbers; waits for all workers."""
    # Each worker adds its number at its own index.
    mine = np.arange(self.size) == self.index
    numbers = np.where(mine, number, 0).astype(np.int32)
    return int(self.reduce_sum(numbers).max())


def _at(windows: Batch, i: int) -> Batch:
  return tf.nest.map_structure(lambda part: tf.constant(part[i]), windows)


def _trees(state: TrainState) -> dict[str, Any]:
  return {'frozen': state.frozen, **state.parts()}


def connect() -> SingleWorker:
  """Joins the other workers that TF_CONFIG names, and waits for them.

  Call it before TensorFlow computes anything.

  Raises:
    UsageError: TF_CONFIG is malformed, or the workers' copies disagree.
    InputError: this worker's port is taken, or a worker cannot be reached.
  """
  cluster = read_cluster(os.environ.get('TF_CONFIG', ''))
  if cluster:
    return _join(cluster)
  if len(tf.config.list_physical_devices('GPU')) > 1:
    return MultiWorker(tf.distribute.MirroredStrategy())
  return SingleWorker()


def _join(cluster: Cluster) -> MultiWorker:
  address, size = cluster.addresses[cluster.worker], len(cluster.addresses)
  check_port(address)
  print(f'waiting for {size} workers, of which this is {cluster.worker} ...')
  rendezvous.meet(cluster, say)
  try:
    with _deadline(f'worker {cluster.worker} at {address}'):
      strategy = tf.distribute.MultiWorkerMirroredStrategy()
  except (tf.errors.OpError, RuntimeError) as error:
    raise InputError(
      f'worker {cluster.worker} at {address} could not join the others '
      f'({str(error).splitlines()[0]}); check TF_CONFIG on every machine'
    ) from None
  return MultiWorker(strategy, cluster.worker, size)


@contextlib.contextmanager
def _deadline(who: str) -> Iterator[None]:
  """Exits after a timeout, as TensorFlow's own wait cannot be interrupted."""

  def end() -> None:
    print(
      f'{who} could not join the others within {rendezvous.PATIENCE:,.0f} s, '
      'although all were ready; restart all workers',
      file=sys.stderr,
      flush=True,
    )
    os._exit(1)

  timer = threading.Timer(rendezvous.PATIENCE, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
