"""Generates with a served model, over REST or gRPC.

  endpoint = connect('localhost:8501', 'shakespeare', 'rest')
  for answer in generate(endpoint, ['ROMEO:'], Request(seed=1)):
    print(answer.text)

`stream` yields the text while it is generated: the server computes one token a
request, and the client samples, as the server would have sampled.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.errors import UsageError, unknown
from minigpt.generation import automaton, logits_processors, sampling
from minigpt.generation.detokenizer import Detokenizer
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving.endpoint import Arrays, Endpoint
from minigpt.serving.grpc_endpoint import GrpcEndpoint
from minigpt.serving.rest_endpoint import RestEndpoint
from minigpt.serving.sampling_inputs import (
  fields_of,
  needed_version,
  sampling_inputs,
  signature_name,
)
from minigpt.tokenizers import Tokenizer, encode_prompt


def connect(
  target: str, model: str, protocol: str = 'grpc', timeout: float = 60.0
) -> Endpoint:
  """Returns an endpoint for one model of a server; sends nothing yet.

  Args:
    target: 'host:port'; a server has one port for each protocol.
    timeout: seconds to wait for an answer.

  Raises:
    UsageError: an argument makes no sense.
    InputError: gRPC is asked for, and tensorflow-serving-api is missing.
  """
  host, _, port = target.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 65536:
    raise UsageError(f'target {target!r}: give it as host:port')
  if not model:
    raise UsageError('the model name is empty; name it as the server does')
  if not timeout > 0:
    raise UsageError(f'timeout={timeout}: it must be greater than 0 seconds')
  kinds: dict[str, type[GrpcEndpoint] | type[RestEndpoint]] = {
    'grpc': GrpcEndpoint,
    'rest': RestEndpoint,
  }
  if protocol not in kinds:
    raise unknown('protocol', protocol, kinds)
  return kinds[protocol](target, model, timeout)


class Answer(NamedTuple):
  """What the model generated for one prompt."""

  text: str  # up to a stop string of the request
  tokens: np.ndarray  # int32 [N], of the row; the server knows no such string
  log_prob: float  # of the tokens, under the model at temperature 1


def generate(
  endpoint: Endpoint, prompts: Sequence[str], request: Request
) -> list[Answer]:
  """Continues each prompt; row i samples with seed `request.seed + i`.

  Raises:
    UsageError: a value of the request is out of its range, or the model was
      exported before there was such an option.
    EndpointError: the server gives no answer, or refuses a prompt.
  """
  version = needed_version(_check(request))
  options = sampling_inputs(request, len(prompts), version)
  name = signature_name('generate', version)
  if version > 1 and name not in endpoint.signatures():
    # Named by option: users know these, not the versions of signatures.
    later = {*options} - {*fields_of(1)}
    raise UsageError(
      f'{", ".join(sorted(later))}: the model was exported before there was '
      'such an option; export it again, or leave it out'
    )
  answer = endpoint.predict(name, {'prompt': list(prompts), **options})
  return [
    Answer(
      automaton.until(text, request.stop).decode('utf-8', 'replace'),
      tokens[:n_tokens],
      float(log_prob),
    )
    for text, tokens, n_tokens, log_prob in zip(
      answer['text_bytes'],
      answer['tokens'],
      answer['num_tokens'],
      answer['log_prob'],
      strict=True,
    )
  ]


def _check(request: Request) -> Request:
  """Raises UsageError for what no export can do, too."""
  for name, value in request.check().changed():
    if name not in SAMPLING_FIELDS and name != 'stop':
      raise UsageError(f'{name}={value}: a server cannot do that; leave it out')
  return request


def step_inputs(
  answer: Arrays, token: np.ndarray, position: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns inputs of `decode_step` for tokens, int [B], at positions.

  Args:
    answer: what `prefill`, or the `decode_step` before, returned.
    token: int [B].
    position: int [B].
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
  tokenizer: Tokenizer,
  context_length: int,
) -> Iterator[str]:
  """Continues one prompt; yields text as soon as it is certain.

  Every token is a request that carries the keys and values of all before it,
  so prefer gRPC: it sends them as they are, REST as decimal numbers.

  Args:
    tokenizer: of the model; its file is among the assets of the export.
    context_length: of the model.

  Raises:
    UsageError, EndpointError, InputError: as `generate` does.
  """
  _check(request)
  row = Detokenizer(tokenizer, request.stop)
  ids = encode_prompt(tokenizer, prompt)[-context_length:].tolist()
  answer = _prefill(endpoint, ids)
  position = len(ids)
  for step in range(request.max_new_tokens):
    token = _sample(answer['logits'], request, ids, step, tokenizer.end_of_text)
    if token == tokenizer.end_of_text:
      break
    yield row.add([token])
    if row.stopped or step + 1 == request.max_new_tokens:
      break
    ids.append(token)
    if position == context_length:  # Full: keep half, as the server does.
      ids = ids[-(context_length // 2 + 1) :]
      answer, position = _prefill(endpoint, ids), len(ids)
      continue
    inputs = step_inputs(answer, np.array([token]), np.array([position]))
    answer = endpoint.predict('decode_step', inputs)
    position += 1
  yield row.finish()


def _prefill(endpoint: Endpoint, ids: list[int]) -> Arrays:
  return endpoint.predict('prefill', {'ids': [ids], 'prompt_len': [len(ids)]})


def _sample(
  logits: np.ndarray,
  request: Request,
  ids: list[int],
  step: int,
  stop_token: int | None,
) -> int:
  """Samples the token after `ids`, as the server does."""
  options = request.options(1)
  steps, length = tf.constant([step]), tf.constant([len(ids)])
  ruled = logits_processors.apply(
    tf.constant(logits),
    logits_processors.select_rules(options),
    tf.constant([ids]),
    length,
    steps,
    stop_token,
  )
  return int(
    sampling.sample(ruled, sampling.select_sampling(options), steps)[0]
  )
