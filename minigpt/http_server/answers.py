"""Builds the JSON of answers in the format of OpenAI's API.

https://platform.openai.com/docs/api-reference
"""

import base64
import codecs
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigpt.http_server.scheduler import Piece, Token
from minigpt.tokenizers import Tokenizer


class Writer:
  """Builds the answer to one request for text."""

  def __init__(
    self,
    model: str,
    tokenizer: Tokenizer,
    is_chat: bool,
    n_answers: int,
    wants_logprobs: bool,
  ):
    """Begins an answer.

    Args:
      model: name of the model.
      tokenizer: of the model.
      is_chat: whether the answers are messages.
      n_answers: number of answers to the request.
      wants_logprobs: whether to report each token's log p.
    """
    self._tokens = tokenizer.tokens
    self._is_chat = is_chat
    self._wants_logprobs = wants_logprobs
    self._about = {
      'id': ('chatcmpl-' if is_chat else 'cmpl-') + secrets.token_hex(12),
      'created': int(time.time()),
      'model': model,
    }
    self._begun = [False] * n_answers
    self._offsets = [_Offset() for _ in range(n_answers)]

  def event(self, i: int, piece: Piece) -> dict[str, Any]:
    """Returns the event of a stream for a new piece of answer `i`."""
    choice: dict[str, Any] = {'index': i, 'finish_reason': piece.finish_reason}
    if self._is_chat:
      role = {} if self._begun[i] else {'role': 'assistant'}
      choice['delta'] = {**role, 'content': piece.text}
    else:
      choice['text'] = piece.text
    self._begun[i] = True
    choice['logprobs'] = self._logprobs(i, piece.tokens)
    return self._object([choice], streams=True)

  def whole(
    self, pieces: Sequence[Sequence[Piece]], n_prompt_tokens: int
  ) -> dict[str, Any]:
    """Returns the answer of a request without streaming."""
    choices: list[dict[str, Any]] = []
    for i, own in enumerate(pieces):
      text = ''.join(piece.text for piece in own)
      tokens = [token for piece in own for token in piece.tokens]
      said: dict[str, Any] = {'text': text}
      if self._is_chat:
        said = {'message': {'role': 'assistant', 'content': text}}
      about = {'index': i, 'finish_reason': own[-1].finish_reason}
      choices.append({**about, **said, 'logprobs': self._logprobs(i, tokens)})
    n_tokens = sum(own[-1].n_tokens for own in pieces)
    return {
      **self._object(choices, streams=False),
      'usage': usage(n_prompt_tokens, n_tokens),
    }

  def usage_event(self, n_prompt_tokens: int, n_tokens: int) -> dict[str, Any]:
    """Returns the last event of a stream, if the usage is wanted."""
    counted = usage(n_prompt_tokens, n_tokens)
    return {**self._object([], streams=True), 'usage': counted}

  def _object(self, choices, streams):
    kind = 'text_completion'
    if self._is_chat:
      kind = 'chat.completion.chunk' if streams else 'chat.completion'
    return {**self._about, 'object': kind, 'choices': choices}

  def _logprobs(self, i: int, tokens: Sequence[Token]) -> Any:
    if not self._wants_logprobs:
      return None
    if self._is_chat:
      return {'content': [self._chat_token(token) for token in tokens]}
    return {
      'tokens': [self._name(token.id) for token in tokens],
      'token_logprobs': [token.log_prob for token in tokens],
      'top_logprobs': [
        {self._name(t): p for t, p in token.alternatives.items()}
        for token in tokens
      ],
      'text_offset': [
        self._offsets[i].add(self._tokens[token.id]) for token in tokens
      ],
    }

  def _chat_token(self, token: Token) -> dict[str, Any]:
    top = [self._scored(t, p) for t, p in token.alternatives.items()]
    return {**self._scored(token.id, token.log_prob), 'top_logprobs': top}

  def _scored(self, token: int, log_prob: float) -> dict[str, Any]:
    data = self._tokens[token]
    shown = data.decode('utf-8', 'replace')
    return {'token': shown, 'logprob': log_prob, 'bytes': list(data)}

  def _name(self, token: int) -> str:
    """Returns a token as text; partial characters in the API's notation."""
    data = self._tokens[token]
    try:
      return data.decode()
    except UnicodeDecodeError:
      return 'bytes:' + ''.join(f'\\x{byte:02x}' for byte in data)


class _Offset:
  """Counts the characters before each token of a text."""

  def __init__(self) -> None:
    self._utf8 = codecs.getincrementaldecoder('utf-8')('replace')
    self._n = 0

  def add(self, token: bytes) -> int:
    before = self._n
    self._n += len(self._utf8.decode(token))
    return before


def usage(n_prompt_tokens: int, n_tokens: int) -> dict[str, int]:
  """Returns the numbers of tokens that were read and generated."""
  return {
    'prompt_tokens': n_prompt_tokens,
    'completion_tokens': n_tokens,
    'total_tokens': n_prompt_tokens + n_tokens,
  }


def embeddings(
  model: str, vectors: np.ndarray, form: str, n_prompt_tokens: int
) -> dict[str, Any]:
  """Returns the answer of /v1/embeddings.

  Args:
    model: name of the model.
    vectors: f32 [B, D].
    form: 'float', or 'base64' for little-endian bytes.
    n_prompt_tokens: for the usage.
  """
  data: list[dict[str, Any]] = []
  for i, vector in enumerate(vectors):
    shown: Any = vector.tolist()
    if form == 'base64':
      shown = base64.b64encode(vector.astype('<f4').tobytes()).decode()
    data.append({'object': 'embedding', 'index': i, 'embedding': shown})
  counted = usage(n_prompt_tokens, 0)
  del counted['completion_tokens']
  return {'object': 'list', 'model': model, 'data': data, 'usage': counted}


def model_object(name: str, created: int) -> dict[str, Any]:
  """Returns a model as /v1/models lists it."""
  return {
    'id': name,
    'object': 'model',
    'created': created,
    'owned_by': 'minigpt',
  }


def event_line(body: dict[str, Any] | str) -> str:
  """Returns a server-sent event (HTML standard, section 9.2)."""
  text = body if isinstance(body, str) else json.dumps(body)
  return f'data: {text}\n\n'
