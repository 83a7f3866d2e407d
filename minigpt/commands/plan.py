r"""Estimates the memory and the time of a run before it is started.

  python -m minigpt plan --preset=gpt2-1558m --batch_size=256 --workers=64 \
    --gbps=100 --gflops=50000

--gflops is the rate of one worker's matmuls, --gbps the bandwidth of the
network between workers. docs/scaling.md describes the estimate.
"""

import dataclasses

from minigpt.commands.flags import plan as flags
from minigpt.config import (
  DataConfig,
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.errors import UsageError
from minigpt.profiling import scaling_model
from minigpt.runtime import app
from minigpt.training import memory_estimate
from minigpt.training.metrics import clock


def main() -> None:
  """Prints parameters, memory, work and time of a run."""
  explicit = app.explicit_flags(flags.FLAGS, GPTConfig, DataConfig, TrainConfig)
  settings = resolve(preset_values(flags.PRESET.value, explicit))
  config, recipe = GPTConfig(**settings.model), settings.train
  n = flags.WORKERS.value
  _check(n, recipe)
  machine = scaling_model.Machine(flags.GFLOPS.value, flags.GBPS.value)
  step = scaling_model.step_cost(config, recipe, n, machine)
  # Each worker holds the whole state and its share of a batch.
  share = dataclasses.replace(recipe, batch_size=recipe.batch_size // n)
  need = memory_estimate.estimate(config, share)
  print(
    f'{config.n_parameters:,} parameters\n'
    f'{need.total / 2**30:,.1f} GiB in each of {n} workers: '
    f'{need.state / 2**30:,.1f} state, '
    f'{need.activations / 2**30:,.1f} activations\n'
    f'{step.n_tokens:,} tokens a step: {step.flops / 1e12:,.2f} TFLOP and '
    f'{step.sent_bytes / 1e6:,.0f} MB sent by each worker\n'
    f'{step.compute_s:,.3f} s computing, {step.communication_s:,.3f} s '
    f'communicating, efficiency {step.efficiency:.0%}\n'
    f'{step.n_tokens / step.seconds:,.0f} tokens/s; {recipe.steps:,} steps in '
    f'{clock(recipe.steps * step.seconds)}'
  )


def _check(n: int, recipe: TrainConfig) -> None:
  """Raises UsageError for flags that make no sense together."""
  if n < 1 or recipe.batch_size % n:
    raise UsageError(
      f'batch_size={recipe.batch_size} cannot be shared evenly by {n} workers; '
      'choose a multiple'
    )
  for flag in (flags.GBPS, flags.GFLOPS):
    if not 0 < flag.value < float('inf'):
      raise UsageError(f'{flag.name}={flag.value}: it must be greater than 0')
