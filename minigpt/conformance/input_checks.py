"""Checks of inputs: padding, hard prompts, and values out of range."""

import re
from typing import Any

import numpy as np

from minigpt.conformance.subject import (
  CheckError,
  CheckFunction,
  ModelUnderTest,
  example_inputs,
  known_signatures,
  predict_example,
  split_rows,
  take_rows,
)
from minigpt.errors import InputError
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.sampling_inputs import base_name
from minigpt.tokenizers import Tokenizer, encode_prompt

_HARD = {
  'Unicode': 'a\u0301 \u6f22\u5b57 \U0001f469\u200d\U0001f467 \u202e'.encode(),
  'empty': b'',
  'NUL': b'a\0b',
  'invalid UTF-8': b'a\xff\xfe',
}
_VERY_LONG = 2000  # Repetitions of the prompts, for a very long one.
_TEXT_INPUTS = ('prompt', 'text')
_NAN = float('nan')
_FAR_TOO_MANY = 2**30  # Tokens: more than any export allows.


def id_padding(model: ModelUnderTest) -> str:
  """Checks that the padding after a prompt's last token has no effect."""
  for name in ('generate_ids', 'prefill'):
    inputs = example_inputs(model, name)
    longer = np.pad(inputs['ids'], [[0, 0], [0, 3]], constant_values=1)
    expected = split_rows(model.endpoint.predict(name, inputs))
    got = split_rows(model.endpoint.predict(name, {**inputs, 'ids': longer}))
    for i in range(model.n_rows):
      model.compare_row(
        f'{name}: row {i} with other padding', got[i], expected[i]
      )
  return 'generate_ids, prefill'


def hard_prompts(model: ModelUnderTest) -> str:
  """Checks that unusual text is answered, or refused with the input's name."""
  very_long = {'very long': b''.join(model.prompts) * _VERY_LONG}
  outcomes = []
  for kind, prompt in (_HARD | very_long).items():
    found = {
      refuses(model, name, {key: [prompt, model.prompts[0]]})
      for name, key in _text_signatures(model)
    }
    if len(found) > 1:
      raise CheckError(f'{kind}: some signatures refuse it, others do not')
    (refused,) = found
    if model.files.tokenizer:
      _check_outcome(model, model.files.tokenizer, kind, prompt, refused)
    outcomes.append(f'{kind} {"refused" if refused else "answered"}')
  return ', '.join(outcomes)


def _check_outcome(
  model: ModelUnderTest,
  tokenizer: Tokenizer,
  kind: str,
  prompt: bytes,
  refused: bool,
) -> None:
  """Raises CheckError if the export and the Python tokenizer disagree."""
  if refused and not prompt and tokenizer.end_of_text is None:
    return  # Exports of the first releases refuse every empty prompt.
  try:
    n_ids = len(encode_prompt(tokenizer, prompt.decode()))
  except (UnicodeDecodeError, InputError):
    n_ids = 0
  if refused != (n_ids == 0):
    raise CheckError(f'{kind}: {"refused" if refused else "answered"} wrongly')
  if n_ids:
    (row,) = split_rows(model.endpoint.predict('score', {'text': [prompt]}))
    # The first token has no context, so it is not scored.
    n_counted = 1 + row['num_tokens'] + row['num_dropped']
    if n_counted != n_ids:
      raise CheckError(f'{kind}: read as {n_counted} tokens, not {n_ids}')


def _text_signatures(model: ModelUnderTest) -> list[tuple[str, str]]:
  """Returns (signature, input) for each signature that takes text."""
  return [
    (name, key)
    for name in known_signatures(model)
    for key in model.endpoint.signatures()[name].inputs
    if key in _TEXT_INPUTS
  ]


def refuses(model: ModelUnderTest, name: str, changed: dict[str, Any]) -> bool:
  """Returns whether a request of two rows with these inputs is refused.

  Raises:
    CheckError: the refusal does not name the first of the `changed` inputs.
  """
  inputs = take_rows(example_inputs(model, name), [0, 0])
  try:
    model.endpoint.predict(name, inputs | changed)
    return False
  except EndpointError as error:
    field = next(iter(changed))
    named = re.search(rf'\b{field}\b', str(error))
    if error.kind != 'INVALID_ARGUMENT' or not named:
      value = np.asarray(changed[field], object)[0]
      raise CheckError(f'{name}: {field}={value!r:.20}: {error}') from None
    return True


def bad_values(model: ModelUnderTest) -> str:
  """Checks that each bad value is refused with its name, and does no harm."""
  n_refused = 0
  for name in known_signatures(model):
    if not base_name(name).startswith('generate'):
      continue
    good = example_inputs(model, name)
    for field in filter(good.__contains__, SAMPLING_FIELDS):
      for value in _bad_values(field):
        changed = {field: np.array([value, good[field][0]], good[field].dtype)}
        if not refuses(model, name, changed):
          raise CheckError(f'{name} accepts {field}={value}')
        n_refused += 1
  predict_example(model, 'generate')
  return f'{n_refused} refused by name'


def _bad_values(name: str) -> list[float]:
  """Returns values outside the range of a sampling option."""
  field = SAMPLING_FIELDS[name]
  if field.range is None:
    return []
  low, high, excludes_low = field.range
  if field.is_integer:
    is_limited = isinstance(high, str) or field.stage == 'loop'
    return [int(low) - 1, *[_FAR_TOO_MANY] * is_limited]
  too_high = [high + 1] if isinstance(high, float | int) else []
  return [float(low) if excludes_low else low - 1.0, *too_high, _NAN]


CHECKS: dict[str, CheckFunction] = {
  'padding of ids': id_padding,
  'hard prompts': hard_prompts,
  'bad values': bad_values,
}
