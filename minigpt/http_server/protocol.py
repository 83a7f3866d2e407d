"""Parses requests of OpenAI's API.

Source: https://platform.openai.com/docs/api-reference. Fields that would change
the text but are not supported are refused instead of ignored.
"""

import dataclasses
import json
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

from minigpt.config.validation import as_strings
from minigpt.errors import UsageError
from minigpt.generation import grammar
from minigpt.generation.alternatives import WIDTH
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.http_server.errors import HttpError

MAX_ROWS = 128  # Answers of one request: prompts times `n`.
_MAX_STOPS = 4
_LEGACY_LOGPROBS = 5
# Fields that do not affect the text.
_IGNORED = {
  'metadata',
  'prompt_cache_key',
  'safety_identifier',
  'service_tier',
  'store',
  'user',
}
# Unsupported fields that would affect the text, with their neutral values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  'echo': (None, False),
  'frequency_penalty': (None, 0),
  'logit_bias': (None, {}),
  'presence_penalty': (None, 0),
  'suffix': (None, ''),
  'tool_choice': (None, 'none'),
  'tools': (None, []),
}
# Sampling options of minigpt that OpenAI's API does not have.
_OURS = ('top_k', 'min_p', 'repetition_penalty', 'min_new_tokens')


Grammars = Mapping[str, Mapping[str, Any]]
_NONE: Grammars = {}


class Asked(NamedTuple):
  """A parsed request for text; each prompt gets `n` answers."""

  prompts: list[Any]  # each a text, tokens, or the messages of a chat
  request: Request
  n: int
  stream: bool
  include_usage: bool
  logprobs: int | None  # number of alternatives by token; None: no log p


def read_json(body: bytes) -> dict[str, Any]:
  """Parses the body of a request, or raises HttpError 400."""

  def refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no JSON')

  try:
    found = json.loads(body, parse_constant=refuse)
  except (ValueError, RecursionError) as error:
    raise HttpError(400, f'the body is not JSON: {error!s:.200}') from None
  if not isinstance(found, dict):
    raise HttpError(400, 'the body must be a JSON object')
  return found


class Fields:
  """The fields of a body; `take` removes a field, `finish` refuses the rest."""

  def __init__(self, body: Mapping[str, Any]):
    self._left = {k: v for k, v in body.items() if k not in _IGNORED}

  def take(self, name: str, kinds: Any, default: Any = None) -> Any:
    """Removes and returns a field of the types `kinds`; null means absent."""
    value = self._left.pop(name, None)
    if value is None:
      return default
    # In Python, a bool is an int; in JSON it is not.
    if not isinstance(value, kinds) or (
      isinstance(value, bool) and kinds is not bool
    ):
      raise HttpError(400, f'{name}={value!r:.60}: wrong type', name)
    return value

  def integer(self, name: str, default: int, low: int, high: int) -> int:
    """Returns an integer between `low` and `high`."""
    value = self.take(name, int, default)
    if not low <= value <= high:
      message = f'{name}={value}: it must lie between {low} and {high}'
      raise HttpError(400, message, name)
    return value

  def finish(self) -> None:
    """Refuses the remaining fields, unless they have neutral values."""
    for name, value in self._left.items():
      if name not in _NEUTRAL:
        raise HttpError(400, f'unknown field {name!r:.60}', name)
      if value not in _NEUTRAL[name]:
        message = f'{name}={value!r:.60}: not supported here; leave it out'
        raise HttpError(400, message, name)


def completion(
  body: Mapping[str, Any], max_tokens: int, grammars: Grammars = _NONE
) -> Asked:
  """Parses a request to /v1/completions.

  Args:
    body: the JSON object.
    max_tokens: the largest allowed value of the field.
    grammars: the grammars of the model card, by name.
  """
  fields = Fields(body)
  prompts = _prompts(fields.take('prompt', (str, list), ''))
  logprobs = fields.take('logprobs', int)
  if logprobs is not None and not 0 <= logprobs <= _LEGACY_LOGPROBS:
    message = f'logprobs={logprobs}: it must lie between 0 and 5'
    raise HttpError(400, message, 'logprobs')
  n_tokens = fields.integer('max_tokens', min(16, max_tokens), 1, max_tokens)
  asked = _asked(fields, prompts, n_tokens, logprobs, grammars)
  best_of = fields.take('best_of', int, asked.n)
  if best_of != asked.n:
    raise HttpError(400, f'best_of={best_of}: not supported here', 'best_of')
  fields.finish()
  return asked


def chat(
  body: Mapping[str, Any], max_tokens: int, grammars: Grammars = _NONE
) -> Asked:
  """Parses a request to /v1/chat/completions; see `completion`."""
  fields = Fields(body)
  messages = [_message(m) for m in fields.take('messages', list, [])]
  if not messages:
    raise HttpError(400, 'messages: give at least one', 'messages')
  n_alternatives = fields.integer('top_logprobs', 0, 0, WIDTH)
  wants_logprobs = fields.take('logprobs', bool, False)
  if n_alternatives and not wants_logprobs:
    message = 'top_logprobs needs logprobs=true'
    raise HttpError(400, message, 'top_logprobs')
  default = min(SAMPLING_FIELDS['max_new_tokens'].default, max_tokens)
  old_name = fields.integer('max_tokens', int(default), 1, max_tokens)
  n_tokens = fields.integer('max_completion_tokens', old_name, 1, max_tokens)
  logprobs = n_alternatives if wants_logprobs else None
  asked = _asked(fields, [messages], n_tokens, logprobs, grammars)
  fields.finish()
  return asked


def embedding(
  body: Mapping[str, Any], max_inputs: int
) -> tuple[list[str], str]:
  """Parses a request to /v1/embeddings to texts, and 'float' or 'base64'."""
  fields = Fields(body)
  fields.take('model', str)
  texts = fields.take('input', (str, list))
  texts = [texts] if isinstance(texts, str) else texts
  if not texts or not all(isinstance(text, str) for text in texts):
    raise HttpError(400, 'input: give a text, or a list of texts', 'input')
  if len(texts) > max_inputs:
    raise HttpError(400, f'input: more than {max_inputs} texts', 'input')
  form = fields.take('encoding_format', str, 'float')
  if form not in ('float', 'base64'):
    raise HttpError(400, f'encoding_format={form!r:.60}', 'encoding_format')
  fields.finish()
  return [_unicode(text, 'input') for text in texts], form


def _asked(
  fields: Fields,
  prompts: list[Any],
  n_tokens: int,
  logprobs: int | None,
  grammars: Grammars,
) -> Asked:
  """Parses the fields that completions and chat completions share."""
  fields.take('model', str)
  n = fields.integer('n', 1, 1, MAX_ROWS)
  if n * len(prompts) > MAX_ROWS:
    raise HttpError(400, f'more than {MAX_ROWS} answers in one request', 'n')
  stream = fields.take('stream', bool, False)
  options = Fields(fields.take('stream_options', dict, {}))
  include_usage = options.take('include_usage', bool, False)
  options.take('include_obfuscation', bool)
  options.finish()
  request = _request(fields, n_tokens, _grammar(fields, n_tokens, grammars))
  return Asked(prompts, request, n, stream, include_usage, logprobs)


def _grammar(fields: Fields, n_tokens: int, known: Grammars) -> str:
  """Returns the name of the request's grammar, or ''.

  `response_format` is a field of OpenAI's API, `grammar` one of minigpt's.
  """
  own = fields.take('grammar', str, '')
  field, name, schema = 'grammar', own, None
  form = fields.take('response_format', dict, {'type': 'text'})
  if form != {'type': 'text'}:
    field, (name, schema) = 'response_format', _json_schema(form)
    if own:
      message = 'grammar and response_format: give one of them'
      raise HttpError(400, message, 'grammar')
  elif not own:
    return ''
  offered = f'this model has {", ".join(known) or "none"}'
  if name not in known:
    message = f'{field}: unknown name {name!r:.80}; {offered}'
    raise HttpError(400, message, field)
  exported = known[name].get('json_schema')
  if schema is not None and not grammar.same_schema(schema, exported):
    message = (
      f'{field}: the schema is not that of {name!r} in the export; send it '
      f'unchanged, or the name alone; {offered}'
    )
    raise HttpError(400, message, field)
  if n_tokens < (least := known[name].get('least_tokens', 1)):
    message = f'max_tokens={n_tokens}: {name!r} needs {least} or more'
    raise HttpError(400, message, 'max_tokens')
  return name


def _json_schema(form: Mapping[str, Any]) -> tuple[str, Any]:
  """Returns the name and the schema (or None) of a `response_format`."""
  described = form.get('json_schema')
  name = described.get('name') if isinstance(described, dict) else None
  if form.get('type') != 'json_schema' or not isinstance(name, str):
    message = 'response_format: give type=text, or type=json_schema with a name'
    raise HttpError(400, message, 'response_format')
  assert isinstance(described, dict)
  return name, described.get('schema')


def _request(fields: Fields, n_tokens: int, grammar: str) -> Request:
  stop = as_strings(fields.take('stop', (str, list), []))
  if len(stop) > _MAX_STOPS or not all(isinstance(s, str) for s in stop):
    raise HttpError(400, f'stop: give up to {_MAX_STOPS} texts', 'stop')
  values: dict[str, Any] = {'temperature': 1.0, 'top_p': 1.0}
  values['grammar'] = grammar
  # Without a seed, each answer is different.
  values['seed'] = fields.take('seed', int, secrets.randbits(62))
  for name in ('temperature', 'top_p', *_OURS):
    kinds = int if SAMPLING_FIELDS[name].is_integer else (int, float)
    given = fields.take(name, kinds)
    if given is not None:
      values[name] = given
  try:
    request = Request(max_new_tokens=n_tokens, stop=tuple(stop), **values)
    request.check()
    request.options(MAX_ROWS)  # Raises if a number does not fit its dtype.
  except (UsageError, OverflowError) as error:
    name = str(error).partition('=')[0]
    raise HttpError(400, str(error), name if name in values else None) from None
  return request


def _prompts(prompt: Any) -> list[Any]:
  """Returns the prompts, each a text or tokens, from any of the four forms."""
  if isinstance(prompt, str) or (prompt and _is_tokens(prompt)):
    prompt = [prompt]
  if not prompt:
    raise HttpError(400, 'prompt: the list is empty', 'prompt')
  for each in prompt:
    if isinstance(each, str):
      _unicode(each, 'prompt')
    elif not (isinstance(each, list) and each and _is_tokens(each)):
      raise HttpError(400, 'prompt: give texts or lists of tokens', 'prompt')
  return prompt


def _is_tokens(value: list[Any]) -> bool:
  return all(type(token) is int for token in value)


def _message(message: Any) -> dict[str, str]:
  """Returns role and content of one message of a chat."""
  if not isinstance(message, dict) or not isinstance(message.get('role'), str):
    raise HttpError(400, 'messages: each needs a role', 'messages')
  content = message.get('content')
  if isinstance(content, list):  # Parts, of which only text is supported.
    texts = [p.get('text') if isinstance(p, dict) else None for p in content]
    known = [text for text in texts if isinstance(text, str)]
    content = ''.join(known) if len(known) == len(texts) else None
  if not isinstance(content, str):
    raise HttpError(400, 'messages: the content must be text', 'messages')
  return {'role': message['role'], 'content': _unicode(content, 'messages')}


def _unicode(text: str, field: str) -> str:
  """Refuses lone surrogates, which JSON can express."""
  try:
    text.encode()
  except UnicodeEncodeError:
    raise HttpError(
      400, f'{field}: lone surrogates are no text', field
    ) from None
  return text


def row_request(asked: Asked, i: int) -> Request:
  """Returns the request of answer `i`, with a seed of its own, an int64."""
  seed = (asked.request.seed + i + 2**63) % 2**64 - 2**63
  return dataclasses.replace(asked.request, seed=seed)
