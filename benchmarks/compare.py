"""Runs minigpt and its peers on the same work, in turns, and prints ratios.

  python benchmarks/compare.py --what=decode --peers_python=peers/bin/python

Each run is a process of its own and nothing else runs; in each round the
order is turned around, so that a machine that slows down slows all. Whoever
cannot do what is asked is named with the reason. --what, --preset, the shapes,
--compute_dtype and --weights mean what they mean to `minigpt bench`; --weights
may name several formats, and all are compared in the one table.

All train, prefill and decode with GPT-2's layers: a head tied to the embedding,
all biases, no dropout.
"""

import sys

import peer_runs
from absl import flags

from minigpt.config import (
  COMPILE_MODES,
  WEIGHTS,
  GPTConfig,
  TrainConfig,
  preset_values,
  resolve,
)
from minigpt.errors import UsageError, unknown
from minigpt.runtime import app

_KINDS = ('train', 'prefill', 'decode')
# What the peers' model is, for any preset.
_SAME = {
  'drop_rate': 0.0,
  'bias': True,
  'qkv_bias': True,
  'tie_embeddings': True,
  'mlp_ratio': 4,
  'grad_accum': 1,
}

_FLAGS = flags.FlagValues()
_WHAT = flags.DEFINE_string(
  'what', 'train', f'one of {", ".join(_KINDS)}', flag_values=_FLAGS
)
_PRESET = flags.DEFINE_string(
  'preset', 'gpt2-124m', 'model and its recipe', flag_values=_FLAGS
)
_PEERS_PYTHON = flags.DEFINE_string(
  'peers_python',
  None,
  "the interpreter of the peers' environment",
  flag_values=_FLAGS,
)
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'runs of each', flag_values=_FLAGS)
_REPEATS = flags.DEFINE_integer(
  'repeats', 3, 'calls timed in each run', flag_values=_FLAGS
)
_PROMPT = flags.DEFINE_integer(
  'prompt_length', 128, 'tokens of each prompt', flag_values=_FLAGS
)
_NEW = flags.DEFINE_integer(
  'new_tokens', 64, 'tokens decoded a row', flag_values=_FLAGS
)
_WEIGHTS = flags.DEFINE_list(
  'weights', ['float32'], f'formats: {", ".join(WEIGHTS)}', flag_values=_FLAGS
)
_MODES = flags.DEFINE_list(
  'modes',
  list(COMPILE_MODES),
  'what minigpt is compiled as',
  flag_values=_FLAGS,
)
_PEERS = flags.DEFINE_list(
  'peers',
  list(peer_runs.PEERS),
  'whom to compare with; none where empty',
  flag_values=_FLAGS,
)
app.define_flags(_FLAGS, GPTConfig, TrainConfig)


def main() -> None:
  _check()
  given = app.explicit_flags(_FLAGS, GPTConfig, TrainConfig)
  if wrong := [n for n, v in _SAME.items() if given.get(n, v) != v]:
    raise UsageError(
      f'{wrong[0]}={given[wrong[0]]}: the peers have '
      f'{wrong[0]}={_SAME[wrong[0]]}; leave it out'
    )
  given |= _SAME
  settings = resolve(preset_values(_PRESET.value, given))
  config = GPTConfig(**settings.model)
  commands = {}
  for weights in _WEIGHTS.value:
    commands |= _minigpt(weights, given)
    commands |= _peers(weights, config, settings.train)
  print('\n'.join(peer_runs.table(_figures(commands))))


def _check():
  if _WHAT.value not in _KINDS:
    raise unknown('what', _WHAT.value, _KINDS)
  for flag, known in (
    (_WEIGHTS, WEIGHTS),
    (_MODES, COMPILE_MODES),
    (_PEERS, peer_runs.PEERS),
  ):
    for name in flag.value:
      if name not in known:
        raise unknown(flag.name, name, known)


def _minigpt(weights, given):
  """Commands by (name, weights)."""
  options = {
    'what': _WHAT.value,
    'preset': _PRESET.value,
    'repeats': _REPEATS.value,
    'prompt_length': _PROMPT.value,
    'new_tokens': _NEW.value,
    'weights': weights,
    **given,
  }
  typed = [f'--{name}={value}' for name, value in options.items()]
  command = [sys.executable, '-m', 'minigpt', 'bench', *typed]
  return {
    (f'minigpt {mode}', weights): [*command, f'--compile={mode}']
    for mode in _MODES.value
  }


def _peers(weights, config: GPTConfig, recipe: TrainConfig):
  options = {
    'what': _WHAT.value,
    'layers': config.n_layers,
    'heads': config.n_heads,
    'width': config.emb_dim,
    'vocab': config.vocab_size,
    'context_length': config.context_length,
    'batch_size': recipe.batch_size,
    'prompt_length': _PROMPT.value,
    'new_tokens': _NEW.value,
    'repeats': _REPEATS.value,
    'compute_dtype': recipe.compute_dtype,
    # Those that round what they multiply int8 by do so unasked.
    'weights': 'int8' if weights == 'w8a8' else weights,
  }
  return {
    (name, weights): peer_runs.peer(_PEERS_PYTHON.value, name, **options)
    for name in _PEERS.value
  }


def _figures(commands):
  """For each key the figures of each round, or the reason for none."""
  found = {key: [] for key in commands}
  for round_ in range(_ROUNDS.value):
    for key in list(commands)[:: -1 if round_ % 2 else 1]:
      if isinstance(found[key], list):
        figures = peer_runs.figures(commands[key])
        if isinstance(figures, str):
          found[key] = figures
        else:
          found[key].append(figures)
          rate = f'{figures["tokens_per_s"]:,.1f} tokens/s'
          print(f'{round_ + 1}: {" ".join(key)}: {rate}', file=sys.stderr)
  return found


if __name__ == '__main__':
  app.run(_FLAGS, __doc__, main)
