"""Generates text with a trained model.

  python -m minigpt generate --workdir=runs/s --prompt="ROMEO:"

Several --prompt flags are answered in one batch; --num_samples answers each
prompt several times, with the seeds --seed, --seed + 1, ...
"""

import sys
from typing import Any

from minigpt.checkpoints.loading import load_trained
from minigpt.commands.flags import generate as flags
from minigpt.errors import UsageError
from minigpt.generation import grammar
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request
from minigpt.kernels.quantize import quantize

_GRAMMAR = 'grammar'  # The name of the grammar given by --grammar.
_MOST_SAMPLES = 2**16


def main() -> None:
  """Prints each prompt and its continuations."""
  if flags.WORKDIR.value is None or not flags.PROMPT.value:
    raise UsageError('give --workdir and at least one --prompt')
  n_samples = flags.NUM_SAMPLES.value
  if not 1 <= n_samples <= _MOST_SAMPLES:
    raise UsageError(
      f'num_samples={n_samples}: it must lie in [1, {_MOST_SAMPLES}]'
    )
  request = _request().check()
  trained = load_trained(flags.WORKDIR.value)
  dtype = flags.COMPUTE_DTYPE.value
  generator = Generator(
    quantize(trained.model.params, flags.WEIGHTS.value, dtype),
    trained.run.model,
    trained.tokenizer,
    compute_dtype=dtype,
    frozen=True,
    grammars=_grammars(),
  )
  prompts = [prompt for prompt in flags.PROMPT.value for _ in range(n_samples)]
  if len(prompts) == 1:
    _stream(generator, prompts[0], request)
  else:
    texts = generator(prompts, request)
    for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
      print(f'--- {number + 1}\n{prompt}{text}')


def _request() -> Request:
  """Returns the request of the flags, not yet checked."""
  sampling: dict[str, Any] = {
    name: flag.value for name, flag in flags.SAMPLING.items()
  }
  return Request(
    **sampling,
    stop=tuple(flags.STOP.value),
    logit_bias=dict(map(_bias, flags.LOGIT_BIAS.value)),
    banned=tuple(flags.BAN.value),
    num_beams=flags.NUM_BEAMS.value,
    length_penalty=flags.LENGTH_PENALTY.value,
    speculate=flags.SPECULATE.value,
    grammar=_GRAMMAR if flags.GRAMMAR.value else '',
  )


def _grammars() -> list[grammar.Grammar]:
  path = flags.GRAMMAR.value
  return [grammar.read(path, _GRAMMAR)] if path else []


def _bias(text: str) -> tuple[int, float]:
  """Parses a token id and the bias of its logit."""
  token, _, bias = text.partition('=')
  try:
    return int(token), float(bias)
  except ValueError:
    raise UsageError(
      f'logit_bias={text}: give a token and its bias, as in 50256=-100'
    ) from None


def _stream(generator: Generator, prompt: str, request: Request) -> None:
  """Prints the text while it is generated."""
  pending = prompt  # Not shown before the generator has accepted it.

  def show(_: int, text: str) -> None:
    nonlocal pending
    sys.stdout.write(pending + text)
    sys.stdout.flush()
    pending = ''

  generator([prompt], request, show)
  print(pending)
