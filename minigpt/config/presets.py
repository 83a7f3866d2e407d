"""Presets: named settings, and how a run combines them with explicit values.

README.md and docs/performance.md list measured times and losses;
`minigpt plan --preset=NAME` estimates memory and work for another machine.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from minigpt.config.data import DataConfig
from minigpt.config.model import GPTConfig
from minigpt.config.training import TrainConfig
from minigpt.errors import UsageError, unknown


class Preset(NamedTuple):
  """Values of a preset: keyword arguments of the three configs."""

  model: dict[str, Any]
  data: dict[str, Any]
  train: dict[str, Any]


class Settings(NamedTuple):
  """The settings of a run before its text has fixed the vocabulary size."""

  model: dict[str, Any]
  data: DataConfig
  train: TrainConfig


def _mini() -> Preset:
  """Returns the specification's character model: 10 epochs at batch size 2.

  python train.py --preset=mini --dataset=sample --workdir=runs/mini

  82 characters, 170 steps of 2 windows; seconds, most of them to compile.
  Expected: next-character accuracy of at least 0.95 (0.975 to 1 with the seeds
  0 to 59), and greedy text that repeats the sample.
  """
  return Preset(
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
      learning_rate=7e-3,
      min_learning_rate=1e-4,
      beta1=0.8,
      beta2=0.95,
      warmup_steps=10,
      eval_every=17,
      eval_stride=1,
      steps_per_call=17,
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


def _shakespeare_char() -> Preset:
  r"""Returns nanoGPT's CPU run of train_shakespeare_char.

  python train.py --preset=shakespeare-char --dataset=tiny_shakespeare \
    --workdir=runs/shakespeare

  The learning rate is three times nanoGPT's; the loss then falls further in the
  same 2,000 steps of 12 windows. Expected: a validation loss of about
  1.78 over the whole validation part.
  """
  return Preset(
    model=_SHAKESPEARE_CHAR,
    data=dict(stride=1),
    train=dict(
      steps=2000, steps_per_call=50, learning_rate=3e-3, eval_every=500
    ),
  )


def _shakespeare_char_fast() -> Preset:
  r"""Returns the same model with a recipe for the least time.

  python train.py --preset=shakespeare-char-fast --dataset=tiny_shakespeare \
    --workdir=runs/fast

  Muon on batches of 32 in bfloat16: 200 steps, in seconds where the processor
  has it. Expected: a validation loss of 1.835 to 1.87, below nanoGPT's 1.88.
  """
  return Preset(
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
  )


def _shakespeare_char_large() -> Preset:
  r"""Returns nanoGPT's GPU run of train_shakespeare_char.

  python train.py --preset=shakespeare-char-large --dataset=tiny_shakespeare \
    --workdir=runs/large

  10.7 million parameters with its 65 characters; 5,000 steps of 64 windows of
  256 characters, about 1 TFLOP each. Expected: what nanoGPT reports for this
  model, a best validation loss of about 1.47; not yet run to its end here.
  """
  return Preset(
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
  )


def _finetune() -> Preset:
  r"""Returns small steps from good weights, for --init_from.

  python train.py --init_from=path/to/gpt2 --dataset=pairs.jsonl \
    --lora_rank=8 --workdir=runs/mine

  The model comes from --init_from, so cost and result depend on it:
  docs/finetuning.md has examples with their results.
  """
  return Preset(
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
  )


def _gpt2(emb_dim: int, n_heads: int, n_layers: int) -> Preset:
  """Returns GPT-2's shapes (Radford et al. 2019, table 2), nanoGPT's recipe.

  python train.py --preset=gpt2-124m --dataset=tokens --workdir=runs/gpt2

  A step is 32,768 tokens. By `minigpt plan`, in float32:

  | preset     | parameters    | memory   | a step     |
  |------------|---------------|----------|------------|
  | gpt2-124m  |   124,412,160 |  9.0 GiB |  28 TFLOP  |
  | gpt2-355m  |   354,749,440 | 21.4 GiB |  79 TFLOP  |
  | gpt2-774m  |   773,891,840 | 40.5 GiB | 170 TFLOP  |
  | gpt2-1558m | 1,557,380,800 | 71.2 GiB | 337 TFLOP  |

  2,000 steps are a start, not a trained GPT-2; no result is promised.
  """
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


PRESETS = {
  'mini': _mini(),
  'shakespeare-char': _shakespeare_char(),
  'shakespeare-char-fast': _shakespeare_char_fast(),
  'shakespeare-char-large': _shakespeare_char_large(),
  'finetune': _finetune(),
  'gpt2-124m': _gpt2(emb_dim=768, n_heads=12, n_layers=12),
  'gpt2-355m': _gpt2(emb_dim=1024, n_heads=16, n_layers=24),
  'gpt2-774m': _gpt2(emb_dim=1280, n_heads=20, n_layers=36),
  'gpt2-1558m': _gpt2(emb_dim=1600, n_heads=25, n_layers=48),
}


def get_preset(name: str) -> Preset:
  """Returns the preset called `name`.

  Raises:
    UsageError: there is no such preset.
  """
  if name not in PRESETS:
    raise unknown('preset', name, PRESETS)
  return PRESETS[name]


def resolve_exclusive(explicit: Mapping[str, Any]) -> dict[str, Any]:
  """Adds to explicit settings what they must override in a preset or saved run.

  Raises:
    UsageError: two explicit settings exclude each other.
  """
  for one, other, what in (
    ('steps', 'epochs', 'set the length'),
    ('val_fraction', 'own_splits', 'choose the validation part'),
  ):
    if one in explicit and explicit.get(other):
      raise UsageError(f'{one} and {other} both {what}: give only one')
  if 'steps' in explicit:
    # Otherwise the epochs of a preset or saved run would override the steps.
    return {**explicit, 'epochs': 0.0}
  return dict(explicit)


def preset_values(preset: str, explicit: dict[str, Any]) -> dict[str, Any]:
  """Returns the values of a preset, overridden by those set explicitly.

  With `init_from`, the model comes from there instead of the preset.

  Raises:
    UsageError: the preset is unknown, or settings exclude each other.
  """
  explicit = resolve_exclusive(explicit)
  base = get_preset(preset)
  model = {} if explicit.get('init_from') else base.model
  return {**model, **base.data, **base.train, **explicit}


def resolve(values: dict[str, Any]) -> Settings:
  """Sorts values into the three configs.

  Raises:
    UsageError: a value is out of its range.
  """

  def fields_of(config: type[Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(config)}
    return {name: v for name, v in values.items() if name in names}

  GPTConfig(**fields_of(GPTConfig))  # Rejects a bad shape before text is read.
  return Settings(
    fields_of(GPTConfig),
    DataConfig(**fields_of(DataConfig)),
    TrainConfig(**fields_of(TrainConfig)),
  )
