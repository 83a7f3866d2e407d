"""Writes text with a trained model.

  python -m minigpt.commands.generate --workdir=runs/s --prompt="ROMEO:"

Several --prompt are answered in one batch; --num_samples answers each more
than once, with seeds --seed, --seed + 1, ...
"""

import sys
from pathlib import Path

from absl import flags

from minigpt.checkpoints.workdir import load_trained
from minigpt.config import COMPUTE_DTYPES
from minigpt.errors import UsageError
from minigpt.generation.generator import Completer, Request
from minigpt.kernels.quantize import WEIGHTS, quantize
from minigpt.runtime import startup

_D = Request()
_WORKDIR = flags.DEFINE_string('workdir', None, 'run to write with')
_PROMPT = flags.DEFINE_multi_string('prompt', None, 'text to continue')
_MAX_NEW_TOKENS = flags.DEFINE_integer(
  'max_new_tokens', _D.max_new_tokens, 'longest continuation'
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', _D.temperature, 'below 1: bolder; 0: always the likeliest'
)
_TOP_K = flags.DEFINE_integer(
  'top_k', _D.top_k, 'draw from the k likeliest tokens; 0: from all'
)
_TOP_P = flags.DEFINE_float(
  'top_p', _D.top_p, 'draw from the likeliest tokens that reach this mass'
)
_NUM_SAMPLES = flags.DEFINE_integer('num_samples', 1, 'answers to each prompt')
_SEED = flags.DEFINE_integer('seed', _D.seed, 'the same seed, the same text')
_STOP = flags.DEFINE_multi_string('stop', [], 'text that ends an answer')
_REPETITION_PENALTY = flags.DEFINE_float(
  'repetition_penalty',
  _D.repetition_penalty,
  'above 1: tokens that are there already become less likely',
)
_MIN_NEW_TOKENS = flags.DEFINE_integer(
  'min_new_tokens', _D.min_new_tokens, 'no end of text before so many tokens'
)
_LOGIT_BIAS = flags.DEFINE_multi_string(
  'logit_bias', [], 'ID=BIAS: added to the logit of a token; -100 forbids it'
)
_BAN = flags.DEFINE_multi_string('ban', [], 'text that must not be written')
_NUM_BEAMS = flags.DEFINE_integer(
  'num_beams', _D.num_beams, 'from 2 on: beam search instead of drawing'
)
_LENGTH_PENALTY = flags.DEFINE_float(
  'length_penalty', _D.length_penalty, 'above 0: beams may be longer'
)
_SPECULATE = flags.DEFINE_integer(
  'speculate',
  _D.speculate,
  'tokens guessed ahead from what the text has said before, at temperature 0: '
  'the same text, sooner where it repeats itself; 0: none',
)
_WEIGHTS = flags.DEFINE_string(
  'weights', 'float32', f'one of {", ".join(WEIGHTS)}: fewer bits, more speed'
)
_COMPUTE_DTYPE = flags.DEFINE_string(
  'compute_dtype',
  'float32',
  f'one of {", ".join(COMPUTE_DTYPES)}; bfloat16: long prompts and several '
  'texts at once take less time on processors with units for it',
)


def main() -> None:
  if _WORKDIR.value is None or not _PROMPT.value:
    raise UsageError('give --workdir and at least one --prompt')
  if _NUM_SAMPLES.value < 1:
    raise UsageError(f'num_samples={_NUM_SAMPLES.value}: it must be 1 or more')
  request = Request(
    _MAX_NEW_TOKENS.value,
    _TEMPERATURE.value,
    _TOP_K.value,
    _TOP_P.value,
    _SEED.value,
    tuple(_STOP.value),
    _REPETITION_PENALTY.value,
    _MIN_NEW_TOKENS.value,
    dict(map(_bias, _LOGIT_BIAS.value)),
    tuple(_BAN.value),
    _NUM_BEAMS.value,
    _LENGTH_PENALTY.value,
    _SPECULATE.value,
  ).check()
  trained = load_trained(Path(_WORKDIR.value))
  dtype = _COMPUTE_DTYPE.value
  p = quantize(trained.model.params, _WEIGHTS.value, dtype)
  complete = Completer(
    p,
    trained.run.model,
    trained.tokenizer,
    compute_dtype=dtype,
    frozen=True,
  )
  prompts = [p for p in _PROMPT.value for _ in range(_NUM_SAMPLES.value)]
  if len(prompts) == 1:
    _stream(complete, prompts[0], request)
  else:
    texts = complete(prompts, request)
    for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
      print(f'--- {number + 1}\n{prompt}{text}')


def _bias(text: str) -> tuple[int, float]:
  token, _, bias = text.partition('=')
  try:
    return int(token), float(bias)
  except ValueError:
    raise UsageError(
      f'logit_bias={text}: give a token and its bias, as in 50256=-100'
    ) from None


def _stream(complete: Completer, prompt: str, request: Request) -> None:
  """Prints the text while it is made."""

  def show(_, text):
    sys.stdout.write(text)
    sys.stdout.flush()

  show(0, prompt)
  complete([prompt], request, show)
  print()


if __name__ == '__main__':
  startup.run(main)
