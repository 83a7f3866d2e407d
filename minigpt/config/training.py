"""The settings of training: optimizer, schedule, precision, and reports."""

import dataclasses

from minigpt.config.validation import (
  check,
  check_fraction,
  check_not_negative,
  check_positive,
  option,
)
from minigpt.errors import unknown

# How functions are compiled; see `compiler.backend`.
COMPILE_MODES = ('xla', 'hybrid', 'graph')
COMPUTE_DTYPES = ('float32', 'bfloat16')
SERVED_DTYPES = (*COMPUTE_DTYPES, 'int8')  # of exports
OPTIMIZERS = ('adamw', 'muon')
SCHEDULES = ('cosine', 'wsd')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """A recipe: optimizer, schedule, and when to evaluate and save.

  Raises:
    UsageError: a size, rate or count is out of its range.
  """

  steps: int = option(1000, 'optimizer steps in the whole run')
  epochs: float = option(
    0.0,
    'length of the run as passes over the windows; sets --steps, and evaluates '
    'after each pass',
  )
  batch_size: int = option(12, 'windows in one gradient')
  grad_accum: int = option(1, 'gradients averaged into one optimizer step')
  optimizer: str = option(
    'adamw',
    'adamw; or muon, for the matrices of the blocks, and adamw for the rest',
  )
  learning_rate: float = option(1e-3, 'highest learning rate')
  min_learning_rate: float = option(1e-4, 'learning rate at the last step')
  warmup_steps: int = option(100, 'steps of linear warm-up')
  schedule: str = option(
    'cosine',
    'the rate after the warm-up: cosine, half a wave down; wsd, constant, then '
    'falling linearly',
  )
  decay_share: float = option(
    0.5, 'share of the steps after the warm-up in which wsd falls'
  )
  beta1: float = option(0.9, 'decay of the first moment')
  beta2: float = option(0.99, 'decay of the second moment')
  weight_decay: float = option(0.1, 'decoupled weight decay on matrices')
  grad_clip: float = option(1.0, 'largest global gradient norm; 0: no limit')
  compute_dtype: str = option(
    'float32', 'dtype of matmuls, float32 or bfloat16; weights stay float32'
  )
  compile: str = option(
    'auto',
    'xla: one program; hybrid: matmuls by TensorFlow, the rest by XLA; graph: '
    'no XLA; auto: xla, or hybrid for evaluation and generation in bfloat16 on '
    'a CPU with bfloat16 hardware',
  )
  steps_per_call: int = option(
    1, 'optimizer steps inside one compiled loop; faster for small models'
  )
  eval_every: int = option(
    250, 'steps between evaluations; 0: only at the end, and after each epoch'
  )
  eval_batches: int = option(0, 'batches per evaluation; 0: the whole split')
  eval_stride: int = option(
    0, 'distance between evaluated windows; 0: context_length'
  )
  sample_every: int = option(
    0, 'steps between printed samples; 0: only at the end'
  )
  checkpoint_every: int = option(
    0, 'steps between checkpoints; 0: at every evaluation'
  )
  keep_checkpoints: int = option(
    2, 'newest checkpoints to keep, in addition to the best'
  )
  patience: int = option(
    0, 'stop after this many evaluations without a lower loss; 0: never'
  )
  spike_guard: float = option(
    0.0,
    'go back to the last checkpoint and skip a batch whose loss is this many '
    'standard deviations above the last 50; 0: never',
  )
  seed: int = option(0, 'determines initial weights, data order and dropout')
  init_from: str = option(
    '',
    'model to start from: a run, or GPT-2 as published by Hugging Face or '
    'OpenAI',
  )
  lora_rank: int = option(
    0,
    'train adapters of this rank on a frozen --init_from; 0: all weights',
  )
  lora_alpha: float = option(16.0, 'adapters are scaled by alpha / rank')

  def __post_init__(self) -> None:
    """Checks the fields."""
    check(
      not self.lora_rank or bool(self.init_from),
      f'lora_rank={self.lora_rank} without init_from',
      'adapters are trained on top of a trained model; give --init_from',
    )
    self._check_numbers()
    check(
      self.min_learning_rate <= self.learning_rate,
      f'min_learning_rate={self.min_learning_rate} is above '
      f'learning_rate={self.learning_rate}',
      'lower it, or raise the learning rate',
    )
    check(
      0 < self.decay_share <= 1,
      f'decay_share={self.decay_share}',
      'it must lie in (0, 1]',
    )
    for name, known in (
      ('optimizer', OPTIMIZERS),
      ('schedule', SCHEDULES),
      ('compute_dtype', COMPUTE_DTYPES),
      ('compile', (*COMPILE_MODES, 'auto')),
    ):
      if getattr(self, name) not in known:
        raise unknown(name, getattr(self, name), known)

  def _check_numbers(self) -> None:
    check_positive(
      self,
      'lora_alpha',
      'steps',
      'batch_size',
      'grad_accum',
      'learning_rate',
      'steps_per_call',
      'keep_checkpoints',
    )
    check_not_negative(
      self,
      'epochs',
      'min_learning_rate',
      'warmup_steps',
      'weight_decay',
      'grad_clip',
      'eval_every',
      'eval_batches',
      'eval_stride',
      'sample_every',
      'checkpoint_every',
      'patience',
      'spike_guard',
      'seed',
      'lora_rank',
    )
    check_fraction(self, 'beta1', 'beta2')

  @property
  def adapter_scale(self) -> float:
    """The factor of adapters, alpha / rank (Hu et al. 2021, section 4.1)."""
    return self.lora_alpha / self.lora_rank
