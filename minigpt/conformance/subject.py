"""The model under test, and helpers of checks.

A check takes a `ModelUnderTest` and returns its result in a few words, or
raises `CheckError` or `NotApplicableError`. It works with any endpoint: an
export in a process of its own, or a server.

Shapes: B rows, T prompt tokens.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigpt.checkpoints.loading import LoadedModel
from minigpt.errors import InputError
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS
from minigpt.serving.client import step_inputs
from minigpt.serving.endpoint import Arrays, Endpoint, EndpointError
from minigpt.serving.options import Options
from minigpt.serving.sampling_inputs import sampling_inputs
from minigpt.tokenizers import Tokenizer

# Largest error of results; relative for values above 1.
FLOAT32_TOLERANCE = 1e-4


def tolerance(compute_dtype: str, n_layers: int) -> float:
  """Returns the largest error of results that rounding alone explains.

  In bfloat16, each of a layer's four matmuls, and that of the logits, rounds
  inputs and outputs by at most half of 2^-8. Errors have random signs, so n of
  them add up to about sqrt(n) times one. The largest of the thousands of such
  sums in a row is about four times as large.

  In int8, they round inputs only, by at most 2^-14 of the row's largest number,
  which may be sixteen times as large as the row's standard deviation.
  """
  n_matmuls = 4 * n_layers + 1
  if compute_dtype == 'bfloat16':
    return 2**-7 * math.sqrt(2 * n_matmuls)
  if compute_dtype == 'int8':
    return 2**-8 * math.sqrt(n_matmuls)
  return FLOAT32_TOLERANCE


def size_of(x: Any) -> float:
  """Returns the scale of rounding errors: the standard deviation."""
  return max(1.0, float(np.std(x) if np.ndim(x) else np.abs(x)))


class CheckError(Exception):
  """Reports a failed check, in one line."""


class NotApplicableError(Exception):
  """Reports why a check does not apply."""


class Check(NamedTuple):
  """The result of a check."""

  name: str
  status: str  # 'pass', 'fail' or 'skip'
  detail: str


class ModelFiles(NamedTuple):
  """Information about a model from the files of its export and its run."""

  export_dir: Path | None = None
  tokenizer: Tokenizer | None = None  # of the export or of the run
  context_length: int | None = None
  reference: LoadedModel | None = None  # with weights as exported
  stop: tuple[str, ...] = ()  # the export's stop strings
  # From the model card: grammars by name, and the most tokens of an answer.
  grammars: Mapping[str, Any] = MappingProxyType({})
  max_new_tokens: int = Options().max_new_tokens_limit
  largest_batch: int = max(Options().batch_sizes)  # that a server forms
  compute_dtype: str = 'float32'  # of the export's matmuls
  tolerance: float = FLOAT32_TOLERANCE


_NO_FILES = ModelFiles()


class ModelUnderTest(NamedTuple):
  """The endpoint to check, prompts, and the files to check it against."""

  endpoint: Endpoint
  prompts: list[bytes]  # three, of different lengths
  ids: np.ndarray  # int32 [3, T], the same prompts as tokens
  prompt_len: np.ndarray  # int32 [3]
  n_new: int  # how many new tokens the model allows
  files: ModelFiles = _NO_FILES

  @property
  def n_rows(self) -> int:
    """Returns the number of prompts."""
    return len(self.prompts)

  @property
  def reference(self) -> LoadedModel:
    """Returns the trained model, or raises NotApplicableError."""
    if self.files.reference is None:
      raise NotApplicableError('needs --workdir')
    return self.files.reference

  def compare_row(
    self, what: str, got: Mapping[str, Any], expected: Mapping[str, Any]
  ) -> float:
    """Compares a row's outputs: floats within the tolerance, others exactly.

    Args:
      what: names the row in the error.
      got: the outputs of the row, by name.
      expected: the expected ones; other outputs are not compared.

    Returns:
      The largest error of a float; relative to values above 1 in float32, and
      else to the row's standard deviation.

    Raises:
      CheckError: something differs.
    """
    worst = 0.0
    for key, value in expected.items():
      if np.asarray(value).dtype.kind == 'f':
        error = self._relative_error(f'{what}: {key}', got[key], value)
        if not error <= self.files.tolerance:  # NaN is an error, too.
          raise CheckError(f'{what}: {key} is off by {error:.2g}')
        worst = max(worst, error)
      elif not np.array_equal(got[key], value):
        raise CheckError(
          f'{what}: {key} is {got[key]!r:.60}, not {value!r:.60}'
        )
    return worst

  def _relative_error(self, what, got, expected):
    if np.shape(got) != np.shape(expected):
      raise CheckError(f'{what} has the shape {np.shape(got)}')
    is_float32 = self.files.compute_dtype == 'float32'
    # The error of a sum in bfloat16 depends on the size of its terms, so it can
    # be large relative to a sum near 0.
    size = np.abs(expected) if is_float32 else size_of(expected)
    error = np.abs(got - expected) / np.maximum(1, size)
    return float(np.max(error, initial=0))


CheckFunction = Callable[[ModelUnderTest], str]


def prepare(
  endpoint: Endpoint, files: ModelFiles = _NO_FILES
) -> ModelUnderTest:
  """Makes the model generate the prompts for the checks.

  Fixed prompts would not do, as the vocabulary may lack their characters.

  Raises:
    EndpointError: the model does not generate.
  """
  first = np.arange(3, dtype=np.int32)
  inputs = {'ids': first[:, None], 'prompt_len': np.ones_like(first)}
  inputs |= sampling_inputs(Request(temperature=1.0, seed=1), 3)
  context = files.context_length or 2**31
  # Prompts must leave room in the context for a few new tokens. The export's
  # limit of new tokens is unknown, so try smaller numbers until one works.
  for n_new in [n for n in (8, 4, 2) if n + min(n, 4) <= context] + [1]:
    inputs['max_new_tokens'] = np.maximum(n_new // (1 + first), 1)
    try:
      generated = endpoint.predict('generate_ids', inputs)
      break
    except EndpointError as error:
      if 'max_new_tokens' not in str(error) or n_new == 1:
        raise
  return ModelUnderTest(
    endpoint,
    prompts=generated['text'].tolist(),
    ids=generated['tokens'][:, :n_new],
    # A prompt without tokens would be refused.
    prompt_len=np.maximum(generated['num_tokens'], 1),
    n_new=n_new,
    files=files,
  )


def run_check(name: str, check: CheckFunction, model: ModelUnderTest) -> Check:
  """Runs one check; turns its exceptions into a status."""
  try:
    return Check(name, 'pass', check(model))
  except NotApplicableError as reason:
    return Check(name, 'skip', str(reason))
  except (CheckError, InputError) as error:
    return Check(name, 'fail', str(error))
  except (LookupError, ValueError) as error:
    # The arrays lack a name or a dimension that the check relies on.
    return Check(name, 'fail', f'unreadable answer: {error!r:.200}')


def known_signatures(model: ModelUnderTest) -> list[str]:
  """Returns the signatures for which there are example inputs.

  An export may have further ones, of later versions or custom ones.
  """
  known = {*_example_values(model)}
  return [
    name
    for name, signature in model.endpoint.signatures().items()
    if known >= {*signature.inputs} or name == 'decode_step'
  ]


def example_inputs(model: ModelUnderTest, name: str) -> dict[str, Any]:
  """Returns inputs of three different rows for a known signature."""
  if name == 'decode_step':
    return _step_after_prompts(model)
  values = _example_values(model)
  inputs = model.endpoint.signatures()[name].inputs
  return {key: values[key] for key in inputs}


def _example_values(model: ModelUnderTest) -> dict[str, Any]:
  return {
    'prompt': model.prompts,
    'text': model.prompts,
    'ids': model.ids,
    'prompt_len': model.prompt_len,
    'k': np.full([model.n_rows], 3, np.int32),
    'num_sampled': np.arange(model.n_rows, dtype=np.int32),
    'num_alternatives': np.arange(model.n_rows, dtype=np.int32),
    # No row has a grammar: the texts of these checks would not match it.
    'grammar': np.array([''] * model.n_rows, object),
    'grammar_state': np.zeros([model.n_rows], np.int32),
    'num_left': np.full([model.n_rows], model.n_new, np.int32),
    'stop': np.array([['', 'a']] * model.n_rows, object),
    **_example_options(model),
  }


def _example_options(model: ModelUnderTest) -> dict[str, Any]:
  """Returns all sampling options: row 0 is greedy, the others set some."""
  options = Request().options(model.n_rows)
  for place, (name, field) in enumerate(SAMPLING_FIELDS.items()):
    options[name][1 + place % 2] = field.example
  return {
    **options,
    'seed': Request().options(model.n_rows)['seed'],
    'max_new_tokens': np.minimum([4, 2, 3], model.n_new, dtype=np.int32),
    'temperature': np.array([0, 0.8, 1.2], np.float32),
  }


def _step_after_prompts(model: ModelUnderTest) -> dict[str, Any]:
  """Returns inputs of `decode_step`: the most likely token of each prompt."""
  before = predict_example(model, 'prefill')
  token = np.argmax(before['logits'], -1)
  return step_inputs(before, token, model.prompt_len)


def predict_example(model: ModelUnderTest, name: str) -> Arrays:
  """Returns a signature's answer to its example inputs."""
  return model.endpoint.predict(name, example_inputs(model, name))


def spell(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
  """Returns the bytes of generated tokens, without the end of text."""
  return tokenizer.decode_bytes(ids[ids != tokenizer.end_of_text])


def take_rows(inputs: Mapping[str, Any], index: list[int]) -> dict[str, Any]:
  """Selects rows of the inputs, by index."""
  return {
    key: [value[i] for i in index] if isinstance(value, list) else value[index]
    for key, value in inputs.items()
  }


def split_rows(outputs: Arrays) -> list[dict[str, Any]]:
  """Splits the outputs into rows, without padding and caches."""
  # Caches are left out, as their padding holds arbitrary numbers.
  kept = {k: v for k, v in outputs.items() if v.ndim <= 2}
  n_rows = len(next(iter(kept.values())))
  rows = [{k: v[i] for k, v in kept.items()} for i in range(n_rows)]
  for row in rows:
    if 'tokens' in row and 'num_tokens' in row:
      row['tokens'] = row['tokens'][: row['num_tokens']]
  return rows
