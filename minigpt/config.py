"""What a run is made of: the model, its data, its training, and presets.

Every field carries its own help text, and programs make one flag of each, so
this file is the only place that knows what can be set.
"""

import dataclasses
from typing import Any, NamedTuple

from minigpt.errors import UsageError, unknown


def _option(default: Any, text: str) -> Any:
  return dataclasses.field(default=default, metadata={'help': text})


def _check(holds: bool, culprit: str, remedy: str) -> None:
  if not holds:
    raise UsageError(f'{culprit}: {remedy}')


# No count or seed needs more, and int32 tensors hold no more.
_LIMIT = 2**31


def _check_positive(config: Any, *names: str) -> None:
  for name in names:
    value = getattr(config, name)
    _check(
      0 < value < _LIMIT,
      f'{name}={value}',
      f'it must be greater than 0 and below {_LIMIT}',
    )


def _check_not_negative(config: Any, *names: str) -> None:
  for name in names:
    value = getattr(config, name)
    _check(
      0 <= value < _LIMIT,
      f'{name}={value}',
      f'it must be a number that is not negative and below {_LIMIT}',
    )


def _check_fraction(config: Any, *names: str) -> None:
  for name in names:
    value = getattr(config, name)
    _check(0 <= value < 1, f'{name}={value}', 'it must lie in [0, 1)')


@dataclasses.dataclass(frozen=True)
class GPTConfig:
  """Shape of a GPT-2 style model (Radford et al. 2019).

  The defaults are GPT-2's 124M model with tied embeddings.

  Raises:
    UsageError: a size is not positive, a rate is outside [0, 1), or `emb_dim`
      cannot be split evenly over `n_heads`.
  """

  vocab_size: int = 50257
  context_length: int = _option(1024, 'tokens the model can look back on')
  emb_dim: int = _option(768, 'width of the residual stream')
  n_heads: int = _option(12, 'attention heads; they share emb_dim')
  n_layers: int = _option(12, 'transformer blocks')
  drop_rate: float = _option(
    0.1, 'dropout on embeddings, attention weights and sublayer outputs'
  )
  qkv_bias: bool = _option(False, 'add a bias to queries, keys and values')
  bias: bool = _option(
    True, 'add a bias to every other dense layer and to layer norms'
  )
  tie_embeddings: bool = _option(
    True, 'use the token embedding as the output head too'
  )
  mlp_ratio: int = _option(4, 'width of the MLP as a multiple of emb_dim')
  init_std: float = _option(
    0.02, 'spread of the initial weights; narrow models like more'
  )
  vocab_padding: int = _option(
    0, 'embedding rows beyond the vocabulary; no token is ever one of them'
  )
  remat: bool = _option(
    False,
    'keep only what goes into each block, and compute the block again for its '
    'gradient: less memory, more time',
  )

  def __post_init__(self):
    _check_positive(
      self,
      'vocab_size',
      'context_length',
      'emb_dim',
      'n_heads',
      'n_layers',
      'mlp_ratio',
      'init_std',
    )
    _check_not_negative(self, 'vocab_padding')
    _check_fraction(self, 'drop_rate')
    _check(
      self.emb_dim % self.n_heads == 0,
      f'emb_dim={self.emb_dim} is not divisible by n_heads={self.n_heads}',
      'choose a width that the heads can share evenly',
    )

  @property
  def head_dim(self) -> int:
    return self.emb_dim // self.n_heads

  @property
  def mlp_dim(self) -> int:
    return self.mlp_ratio * self.emb_dim


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which text is read, and how it is cut into examples.

  Raises:
    UsageError: `val_fraction` is outside [0, 1) or `stride` is negative.
  """

  dataset: str = _option(
    'sample',
    "'sample', 'stdlib', 'tiny_shakespeare', or a path or glob of UTF-8 text "
    'files, a .npy file of token ids, a .jsonl file of prompts and '
    'completions, or a directory that `minigpt prepare` made',
  )
  tokenizer: str = _option('char', "'char', 'word' or 'gpt2'")
  val_fraction: float = _option(
    0.1,
    'last part of the text kept for validation; 0 trains on everything and '
    'evaluates on the same text',
  )
  own_splits: bool = _option(
    False, "use the data set's own splits instead of val_fraction"
  )
  stride: int = _option(
    0,
    'distance between the starts of neighbouring windows; 0: context_length',
  )
  truncate: bool = _option(
    False,
    'cut the beginning of prompts and completions longer than the context',
  )

  def __post_init__(self):
    _check_fraction(self, 'val_fraction')
    _check_not_negative(self, 'stride')


# How a function becomes machine code; see `lowering`.
COMPILE_MODES = ('xla', 'hybrid', 'graph')
COMPUTE_DTYPES = ('float32', 'bfloat16')
# How weights are kept: in an export, and in memory.
STORED_WEIGHTS = ('float32', 'bfloat16', 'int8')
WEIGHTS = (*STORED_WEIGHTS, 'w8a8')
OPTIMIZERS = ('adamw', 'muon')
SCHEDULES = ('cosine', 'wsd')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """A recipe: optimizer, schedule, and when to look at what.

  Raises:
    UsageError: a size, rate or count is out of its range.
  """

  steps: int = _option(1000, 'optimizer steps in the whole run')
  epochs: float = _option(
    0.0, 'length of the run as passes over the windows; sets --steps'
  )
  batch_size: int = _option(12, 'windows in one gradient')
  grad_accum: int = _option(1, 'gradients averaged into one optimizer step')
  optimizer: str = _option(
    'adamw', 'adamw, or muon: that for the weights of the blocks, adamw beside'
  )
  learning_rate: float = _option(1e-3, 'highest learning rate')
  min_learning_rate: float = _option(1e-4, 'learning rate at the last step')
  warmup_steps: int = _option(100, 'steps of linear warm-up')
  schedule: str = _option(
    'cosine',
    'the rate after the warm-up: cosine, half a wave down; wsd, high until it '
    'falls in a line',
  )
  decay_share: float = _option(
    0.5, 'share of the steps after the warm-up in which wsd falls'
  )
  beta1: float = _option(0.9, 'decay of the first moment')
  beta2: float = _option(0.99, 'decay of the second moment')
  weight_decay: float = _option(0.1, 'decoupled weight decay on matrices')
  grad_clip: float = _option(1.0, 'largest global gradient norm; 0: no limit')
  compute_dtype: str = _option(
    'float32', 'dtype of products, float32 or bfloat16; weights stay float32'
  )
  compile: str = _option(
    'auto',
    'xla: one program; hybrid: products by TensorFlow, the rest by XLA; graph: '
    'no XLA; auto: xla, or hybrid for evaluation and text in bfloat16 on a CPU '
    'with units for it',
  )
  steps_per_call: int = _option(
    1, 'optimizer steps inside one compiled loop; pays for small models'
  )
  eval_every: int = _option(
    250, 'steps between evaluations; 0: only at the end'
  )
  eval_batches: int = _option(0, 'batches per evaluation; 0: the whole split')
  eval_stride: int = _option(
    0, 'distance between evaluated windows; 0: context_length'
  )
  sample_every: int = _option(
    0, 'steps between printed samples; 0: only at the end'
  )
  checkpoint_every: int = _option(
    0, 'steps between checkpoints; 0: at every evaluation'
  )
  keep_checkpoints: int = _option(2, 'newest checkpoints kept beside the best')
  patience: int = _option(
    0, 'stop after this many evaluations without progress; 0: never'
  )
  spike_guard: float = _option(
    0.0,
    'go back to the last checkpoint and leave a batch out where its loss is '
    'this many standard deviations above the last 50; 0: never',
  )
  seed: int = _option(0, 'decides initial weights, data order and dropout')
  init_from: str = _option(
    '',
    'model to start from: a run, or GPT-2 as Hugging Face or OpenAI published '
    'it',
  )
  lora_rank: int = _option(
    0, 'train adapters of this rank beside a frozen --init_from; 0: all weights'
  )
  lora_alpha: float = _option(
    16.0, 'adapters count alpha / rank times as much as the weights'
  )

  def __post_init__(self):
    _check(
      not self.lora_rank or bool(self.init_from),
      f'lora_rank={self.lora_rank} without init_from',
      'adapters need a trained model to stand beside; give --init_from',
    )
    _check_positive(
      self,
      'lora_alpha',
      'steps',
      'batch_size',
      'grad_accum',
      'learning_rate',
      'steps_per_call',
      'keep_checkpoints',
    )
    _check_not_negative(
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
    _check_fraction(self, 'beta1', 'beta2')
    _check(
      self.min_learning_rate <= self.learning_rate,
      f'min_learning_rate={self.min_learning_rate} is above '
      f'learning_rate={self.learning_rate}',
      'lower it, or raise the learning rate',
    )
    _check(
      0 < self.decay_share <= 1,
      f'decay_share={self.decay_share}',
      'it must lie in (0, 1]',
    )
    if self.optimizer not in OPTIMIZERS:
      raise unknown('optimizer', self.optimizer, OPTIMIZERS)
    if self.schedule not in SCHEDULES:
      raise unknown('schedule', self.schedule, SCHEDULES)
    if self.compute_dtype not in COMPUTE_DTYPES:
      raise unknown('compute_dtype', self.compute_dtype, COMPUTE_DTYPES)
    if self.compile not in (*COMPILE_MODES, 'auto'):
      raise unknown('compile', self.compile, (*COMPILE_MODES, 'auto'))


class Preset(NamedTuple):
  """A named starting point: keyword arguments of the three configs."""

  model: dict[str, Any]
  data: dict[str, Any]
  train: dict[str, Any]


def _gpt2(emb_dim: int, n_heads: int, n_layers: int) -> Preset:
  """GPT-2's shapes (Radford et al. 2019, table 2), nanoGPT's recipe."""
  return Preset(
    model=dict(emb_dim=emb_dim, n_heads=n_heads, n_layers=n_layers),
    data=dict(tokenizer='gpt2'),
    train=dict(
      steps=2000,
      batch_size=4,
      grad_accum=8,
      learning_rate=6e-4,
      min_learning_rate=6e-5,
      warmup_steps=100,
      beta2=0.95,
      eval_every=100,
      eval_batches=20,
    ),
  )


_SHAKESPEARE_CHAR = dict(
  context_length=64,
  emb_dim=128,
  n_heads=4,
  n_layers=4,
  drop_rate=0.0,
  bias=False,
)

PRESETS = {
  # The specification's character model; 82 characters, 10 epochs, batch 2.
  'mini': Preset(
    model=dict(
      context_length=48,
      emb_dim=64,
      n_heads=2,
      n_layers=1,
      mlp_ratio=2,
      drop_rate=0.0,
      tie_embeddings=False,
      init_std=0.1,
    ),
    data=dict(val_fraction=0.0, stride=1),
    train=dict(
      epochs=10.0,
      batch_size=2,
      learning_rate=1e-2,
      min_learning_rate=1e-3,
      beta2=0.95,
      warmup_steps=10,
      eval_every=17,
      eval_stride=1,
      steps_per_call=17,
    ),
  ),
  # nanoGPT's CPU configuration of train_shakespeare_char, at three times its
  # learning rate: in as many steps, the loss falls further.
  'shakespeare-char': Preset(
    model=_SHAKESPEARE_CHAR,
    data=dict(stride=1),
    train=dict(
      steps=2000, steps_per_call=50, learning_rate=3e-3, eval_every=500
    ),
  ),
  # The same model, in as little time as nanoGPT's loss of it takes.
  'shakespeare-char-fast': Preset(
    model=dict(**_SHAKESPEARE_CHAR, init_std=0.08),
    data=dict(stride=1),
    train=dict(
      optimizer='muon',
      compute_dtype='bfloat16',
      steps=200,
      batch_size=32,
      learning_rate=2e-2,
      min_learning_rate=0.0,
      warmup_steps=10,
      schedule='wsd',
      beta1=0.7,
      steps_per_call=50,
      eval_every=0,
    ),
  ),
  # nanoGPT's GPU configuration of train_shakespeare_char.
  'shakespeare-char-large': Preset(
    model=dict(
      context_length=256,
      emb_dim=384,
      n_heads=6,
      n_layers=6,
      drop_rate=0.2,
      bias=False,
    ),
    data=dict(stride=1),
    train=dict(steps=5000, batch_size=64),
  ),
  # For --init_from, which supplies the model: small steps from good weights.
  'finetune': Preset(
    model={},
    data={},
    train=dict(
      steps=500,
      batch_size=4,
      learning_rate=5e-5,
      min_learning_rate=5e-6,
      warmup_steps=20,
      beta2=0.95,
      eval_every=100,
    ),
  ),
  'gpt2-124m': _gpt2(emb_dim=768, n_heads=12, n_layers=12),
  'gpt2-355m': _gpt2(emb_dim=1024, n_heads=16, n_layers=24),
  'gpt2-774m': _gpt2(emb_dim=1280, n_heads=20, n_layers=36),
  'gpt2-1558m': _gpt2(emb_dim=1600, n_heads=25, n_layers=48),
}


def get_preset(name: str) -> Preset:
  """Returns the preset called `name`, or raises UsageError."""
  if name not in PRESETS:
    raise unknown('preset', name, PRESETS)
  return PRESETS[name]


class Settings(NamedTuple):
  """What a run asks for, before its text has decided the vocabulary."""

  model: dict[str, Any]
  data: DataConfig
  train: TrainConfig


def preset_values(preset: str, given: dict[str, Any]) -> dict[str, Any]:
  """The values of a preset under those given by hand.

  A model to start from takes the place of the preset's.

  Raises:
    UsageError: an unknown preset, or two lengths for one run.
  """
  if 'steps' in given:
    if given.get('epochs'):
      raise UsageError('steps and epochs both set the length: give only one')
    given = {**given, 'epochs': 0.0}
  base = get_preset(preset)
  model = {} if given.get('init_from') else base.model
  return {**model, **base.data, **base.train, **given}


def settle(values: dict[str, Any]) -> Settings:
  """Sorts values into the three configs.

  Raises:
    UsageError: a value is out of its range.
  """

  def of(config: type) -> dict[str, Any]:
    names = config.__dataclass_fields__
    return {name: v for name, v in values.items() if name in names}

  GPTConfig(**of(GPTConfig))  # Refuses a bad shape before any text is read.
  return Settings(
    of(GPTConfig), DataConfig(**of(DataConfig)), TrainConfig(**of(TrainConfig))
  )
