"""Generates text with a trained model.

  python -m minigpt generate --workdir=runs/s --prompt="ROMEO:"

Several --prompt are answered in one batch; --num_samples answers each more
than once, with seeds --seed, --seed + 1, ...
"""

import sys
from pathlib import Path

from minigpt.checkpoints.loading import load_trained
from minigpt.commands.flags import generate as flags
from minigpt.errors import UsageError
from minigpt.generation.generator import Completer, Request
from minigpt.kernels.quantize import quantize


def main() -> None:
  if flags.WORKDIR.value is None or not flags.PROMPT.value:
    raise UsageError('give --workdir and at least one --prompt')
  if flags.NUM_SAMPLES.value < 1:
    raise UsageError(
      f'num_samples={flags.NUM_SAMPLES.value}: it must be 1 or more'
    )
  request = Request(
    flags.MAX_NEW_TOKENS.value,
    flags.TEMPERATURE.value,
    flags.TOP_K.value,
    flags.TOP_P.value,
    flags.SEED.value,
    tuple(flags.STOP.value),
    flags.REPETITION_PENALTY.value,
    flags.MIN_NEW_TOKENS.value,
    dict(map(_bias, flags.LOGIT_BIAS.value)),
    tuple(flags.BAN.value),
    flags.NUM_BEAMS.value,
    flags.LENGTH_PENALTY.value,
    flags.SPECULATE.value,
  ).check()
  trained = load_trained(Path(flags.WORKDIR.value))
  dtype = flags.COMPUTE_DTYPE.value
  p = quantize(trained.model.params, flags.WEIGHTS.value, dtype)
  complete = Completer(
    p,
    trained.run.model,
    trained.tokenizer,
    compute_dtype=dtype,
    frozen=True,
  )
  prompts = [
    p for p in flags.PROMPT.value for _ in range(flags.NUM_SAMPLES.value)
  ]
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
