"""The model under test, and what checks of it are made of.

A check takes a `ModelUnderTest` and returns in a few words what it found, or
raises `CheckError` or `NotApplicableError`. It doesn't know what is behind the
endpoint: the export in a process of its own, or a server.

Shapes: B rows, T prompt tokens.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
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

# Of results, relative to values above 1.
FLOAT32_TOLERANCE = 1e-4


def tolerance(compute_dtype: str, n_layers: int) -> float:
  """Returns the largest error of results that is due to rounding alone.

  In bfloat16 each of a layer's four matmuls, and that of the logits, rounds
  what goes in and what comes out by half of 2^-8 at most. Half of the errors
  are up and half down, so n of them add up to about sqrt(n) of one. The largest
  of a row's thousands of such sums is some four times as large.
  """
  if compute_dtype != 'bfloat16':
    return FLOAT32_TOLERANCE
  return 2**-7 * math.sqrt(2 * (4 * n_layers + 1))


def size_of(x: Any) -> float:
  """Returns what errors of bfloat16 results are relative to: their spread."""
  return max(1.0, float(np.std(x) if np.ndim(x) else np.abs(x)))


class CheckError(Exception):
  """What a check found wrong, in one line."""


class NotApplicableError(Exception):
  """Why a check does not apply."""


class Check(NamedTuple):
  """What came of one check."""

  name: str
  status: str  # 'pass', 'fail' or 'skip'
  detail: str


class ModelFiles(NamedTuple):
  """What the files of an export and of its run tell about a model."""

  export_dir: Path | None = None
  tokenizer: Tokenizer | None = None  # of the export or of the run
  context_length: int | None = None
  reference: LoadedModel | None = None  # with weights as exported
  stop: tuple[str, ...] = ()  # texts that end every answer of `generate`
  has_grammars: bool = False
  largest_batch: int = max(Options().batch_sizes)  # that a server forms
  compute_dtype: str = 'float32'  # of the export's matmuls
  tolerance: float = FLOAT32_TOLERANCE


_NO_FILES = ModelFiles()


class ModelUnderTest(NamedTuple):
  """What is checked, and what it can be checked against."""

  endpoint: Endpoint
  prompts: list[bytes]  # three, of different lengths
  ids: np.ndarray  # int32 [3, T], the same prompts as tokens
  prompt_len: np.ndarray  # int32 [3]
  n_new: int  # how many new tokens the model agrees to
  files: ModelFiles = _NO_FILES

  @property
  def n_rows(self) -> int:
    """Returns how many prompts there are."""
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
    """Compares the outputs of a row: floats to a tolerance, the rest exactly.

    Args:
      what: names the row in the error.

    Returns:
      The largest error of a float, relative where its value is above 1, or the
      spread of a row in bfloat16.

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
    # Sums of rounded numbers err by their terms' size, even if little is left.
    size = np.abs(expected) if is_float32 else size_of(expected)
    error = np.abs(got - expected) / np.maximum(1, size)
    return float(np.max(error, initial=0))


CheckFunction = Callable[[ModelUnderTest], str]


def prepare(
  endpoint: Endpoint, files: ModelFiles = _NO_FILES
) -> ModelUnderTest:
  """Lets the model generate the prompts that the checks use.

  Text from elsewhere would not do: the vocabulary may hold none of it.

  Raises:
    EndpointError: the model does not generate.
  """
  first = np.arange(3, dtype=np.int32)
  inputs = {'ids': first[:, None], 'prompt_len': np.ones_like(first)}
  inputs |= sampling_inputs(Request(temperature=1.0, seed=1), 3)
  context = files.context_length or 2**31
  # Prompts of which a few more tokens fit into the context. An export has its
  # own limit of new tokens, which no signature tells.
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
    # A prompt of no tokens would be refused.
    prompt_len=np.maximum(generated['num_tokens'], 1),
    n_new=n_new,
    files=files,
  )


def run_check(name: str, check: CheckFunction, model: ModelUnderTest) -> Check:
  """Runs one check; what it raises becomes its status."""
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
  """Returns the signatures that there are example inputs for.

  An export may have others, of later versions or of its owner's.
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
    # No row is under a grammar, which the texts of these checks would not fit.
    'grammar': np.array([''] * model.n_rows, object),
    'grammar_state': np.zeros([model.n_rows], np.int32),
    'num_left': np.full([model.n_rows], model.n_new, np.int32),
    'stop': np.array([['', 'a']] * model.n_rows, object),
    **_example_options(model),
  }


def _example_options(model: ModelUnderTest) -> dict[str, Any]:
  """Returns each sampling option: row 0 is greedy, the others set some."""
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
  """Returns the bytes of generated tokens without the end of text."""
  return tokenizer.decode_bytes(ids[ids != tokenizer.end_of_text])


def take_rows(inputs: Mapping[str, Any], index: list[int]) -> dict[str, Any]:
  """Returns the inputs with these of their rows, in this order."""
  return {
    key: [value[i] for i in index] if isinstance(value, list) else value[index]
    for key, value in inputs.items()
  }


def split_rows(outputs: Arrays) -> list[dict[str, Any]]:
  """Returns the outputs of each row, without padding and caches."""
  # A cache is padded to the longest row, and holds numbers there, too.
  kept = {k: v for k, v in outputs.items() if v.ndim <= 2}
  n_rows = len(next(iter(kept.values())))
  rows = [{k: v[i] for k, v in kept.items()} for i in range(n_rows)]
  for row in rows:
    if 'tokens' in row and 'num_tokens' in row:
      row['tokens'] = row['tokens'][: row['num_tokens']]
  return rows
