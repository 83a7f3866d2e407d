"""Generates with a served model, over REST or gRPC.

  endpoint = connect('localhost:8501', 'shakespeare', 'rest')
  for answer in generate(endpoint, ['ROMEO:'], Request(seed=1)):
    print(answer.text)

`stream` yields the text while it is generated, with requests for a few tokens
each.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minigpt.config.validation import as_strings
from minigpt.errors import UsageError, unknown
from minigpt.generation import automaton
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving import chunks
from minigpt.serving.endpoint import (
  Arrays,
  Endpoint,
  EndpointError,
  check_timeout,
  malformed,
)
from minigpt.serving.export_files import ExportFiles
from minigpt.serving.grpc_endpoint import GrpcEndpoint
from minigpt.serving.rest_endpoint import RestEndpoint
from minigpt.serving.sampling_inputs import (
  fields_of,
  sampling_inputs,
  signature_for,
)
from minigpt.tokenizers import encode_prompt

_HOST = re.compile(r'[!-~]+')
_PORT = re.compile(r'[0-9]{1,5}')


def connect(
  target: str, model: str, protocol: str = 'grpc', timeout: float = 60.0
) -> Endpoint:
  """Returns an endpoint for one model of a server; sends nothing yet.

  Args:
    target: 'host:port'; a server has one port for each protocol.
    model: name of the model on the server.
    protocol: 'grpc' or 'rest'.
    timeout: seconds for each call, until the last byte of its answer; the first
      call includes a request for the signatures.

  Raises:
    UsageError: an argument makes no sense.
    InputError: tensorflow-serving-api, which gRPC needs, is missing.
  """
  host, _, port = target.rpartition(':')
  is_port = _PORT.fullmatch(port) and 0 < int(port) < 65536
  if not _HOST.fullmatch(host) or not is_port:
    raise UsageError(f'target {target!r:.200}: give it as host:port')
  if not model:
    raise UsageError('the model name is empty; name it as the server does')
  check_timeout(timeout)
  kinds: dict[str, type[GrpcEndpoint] | type[RestEndpoint]] = {
    'grpc': GrpcEndpoint,
    'rest': RestEndpoint,
  }
  if protocol not in kinds:
    raise unknown('protocol', protocol, kinds)
  return kinds[protocol](target, model, timeout)


class Answer(NamedTuple):
  """The answer to one prompt."""

  text: str  # up to a stop string of the request
  tokens: np.ndarray  # int32 [N], also those after a stop string
  log_prob: float  # of the tokens, under the model at temperature 1


def generate(
  endpoint: Endpoint, prompts: Sequence[str], request: Request
) -> list[Answer]:
  """Generates text after each prompt; row i has the seed `request.seed + i`.

  Raises:
    UsageError: a value of the request is out of its range, or an option is
      newer than the export.
    EndpointError: the server gives no answer, or refuses a prompt.
  """
  name, version = signature_for('generate', [_check(request)])
  prompts = as_strings(prompts)
  options = sampling_inputs(request, len(prompts), version)
  if request.grammar:
    options['grammar'] = np.array([request.grammar] * len(prompts), object)
  try:
    answer = endpoint.predict(name, {'prompt': list(prompts), **options})
  except EndpointError as error:
    later = {*options} - {*fields_of(1)}
    is_missing = error.kind == 'NOT_FOUND' and name not in endpoint.signatures()
    if not (later and is_missing):
      raise
    if request.grammar:
      raise chunks.no_grammars(request.grammar) from None
    # Name the option: users do not know the versions of signatures.
    raise UsageError(
      f'{", ".join(sorted(later))}: the model was exported before there was '
      'such an option; export it again, or leave it out'
    ) from None
  with malformed(f'no answer of {name}'):
    return [
      _read_row(*row, stop=request.stop)
      for row in zip(
        answer['text_bytes'],
        answer['tokens'],
        answer['num_tokens'],
        answer['log_prob'],
        strict=True,
      )
    ]


def _read_row(text, tokens, n_tokens, log_prob, stop) -> Answer:
  """Returns the answer of a row, or raises ValueError if it is malformed."""
  if not 0 <= n_tokens <= len(tokens):
    raise ValueError(f'{n_tokens} of {len(tokens)} tokens')
  text = automaton.until(text, stop).decode('utf-8', 'replace')
  return Answer(text, tokens[:n_tokens], float(log_prob))


def _check(request: Request) -> Request:
  """Checks a request; refuses options that no export supports."""
  for name, value in request.check().changed():
    if name not in SAMPLING_FIELDS and name not in ('stop', 'grammar'):
      raise UsageError(f'{name}={value}: a server cannot do that; leave it out')
  return request


def step_inputs(
  answer: Arrays, token: np.ndarray, position: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns inputs of `decode_step`.

  Args:
    answer: the answer of `prefill` or of the previous `decode_step`.
    token: int [B], the next token of each row.
    position: int [B], its position.
  """
  return {
    'token': token.astype(np.int32),
    'position': position.astype(np.int32),
    'keys': answer['keys'],
    'values': answer['values'],
  }


def stream(
  endpoint: Endpoint,
  prompt: str,
  request: Request,
  model: ExportFiles,
) -> Iterator[str]:
  """Generates text after one prompt; yields text as soon as it is certain.

  The first request is for one token, so that it comes early; the others are for
  16 tokens each. An export that is too old for chunks yields all text at once.

  Args:
    endpoint: what computes.
    prompt: to continue.
    request: how; the strings of `export --stop` end the text, too.
    model: what `export_files.read` tells of it.

  Raises:
    UsageError, EndpointError, InputError: as `generate` does.
  """
  _check(request)
  if not chunks.has_chunks(endpoint):
    yield generate(endpoint, [prompt], request)[0].text
    return
  size = min(chunks.SIZE, chunks.limit(endpoint))
  if not request.grammar:  # A grammar decides itself where a text ends.
    request = replace(request, stop=(*request.stop, *model.stop))
  text = Detokenizer(model.tokenizer, request.stop)
  ids = encode_prompt(model.tokenizer, prompt)[-model.context_length :]
  row = chunks.Row(ids, request)
  end_of_text = model.tokenizer.end_of_text
  while not (row.done or text.stopped):
    n_new = size if row.n_sampled else 1
    (chunk,) = chunks.predict(endpoint, [row], n_new)
    yield text.add(chunks.text_tokens(chunk.tokens, end_of_text))
  yield text.finish()
