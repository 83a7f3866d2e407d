"""An export in bfloat16 or int8 may differ by rounding, and by no more."""

import math

import pytest
import tensorflow as tf
from spoiled_exports import answering, failure, outcome

from minigpt.compiler import jit
from minigpt.conformance import parity_checks, subject
from minigpt.kernels import prepacked_matmul
from minigpt.serving import export
from minigpt.serving.options import Options
from minigpt.serving.sampling_inputs import base_name
from minigpt.serving.signatures import Server

pytestmark = pytest.mark.skipif(
  not prepacked_matmul.available(),
  reason="this TensorFlow lacks oneDNN's kernels",
)
LOGITS, TOKENS = 'logits, live', 'sampled tokens, live'


class Rounded:
  """An export whose matmuls round."""

  def __init__(self, reference, signatures, dtype):
    self.signatures = signatures
    p = export.stored(reference.weights, Options(dtype, compute_dtype=dtype))
    how = reference.config, reference.tokenizer, 9
    self._server = Server(p, *how, compute_dtype=dtype)
    self._functions = {}

  def predict(self, name, inputs):
    name = base_name(name)
    if name not in self._functions:
      f = getattr(self._server, name)
      self._functions[name] = jit.compiled(f, 'graph-onednn', inference=True)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    answer = self._functions[name](**inputs)
    return {key: value.numpy() for key, value in answer.items()}


def rounded(checked, model, dtype):
  reference = checked.reference._replace(weights=model.params)
  endpoint = Rounded(reference, checked.endpoint.signatures, dtype)
  files = checked.files._replace(
    compute_dtype=dtype,
    tolerance=subject.tolerance(dtype, reference.config.n_layers),
    reference=parity_checks.as_exported(reference, dtype),
  )
  return checked._replace(endpoint=endpoint, files=files)


@pytest.fixture(scope='module')
def rounding(checked, model):
  return rounded(checked, model, 'bfloat16')


@pytest.mark.parametrize('name', [LOGITS, TOKENS])
def test_rounding_is_allowed(rounding, name):
  check = outcome(name, rounding)
  assert check.status == 'pass', check


def test_int8_rounds_a_little(checked, model):
  in_int8 = rounded(checked, model, 'int8')
  check = outcome(LOGITS, in_int8)
  assert check.status == 'pass', check
  # It is not what bfloat16 rounds, and not nothing.
  files = in_int8.files._replace(tolerance=1e-5)
  assert 'is off by 0.000' in failure(LOGITS, in_int8._replace(files=files))


def test_float32_allows_none(rounding):
  files = rounding.files._replace(
    compute_dtype='float32', tolerance=subject.FLOAT32_TOLERANCE
  )
  strict = rounding._replace(files=files)
  assert 'is off by 0.0' in failure(LOGITS, strict)


def test_what_is_no_rounding_is_found(rounding):
  def shift(answer):
    answer['logits'][1, 3] += 0.2
    return answer

  assert 'logits is off by' in failure(
    LOGITS, answering(rounding, 'prefill', shift)
  )

  def other_token(answer):
    answer['tokens'][0, 1] = (answer['tokens'][0, 1] + 5) % 17
    return answer

  assert 'tokens is' in failure(
    TOKENS, answering(rounding, 'generate_v2', other_token)
  )

  def less_likely(answer):
    return answer | {'log_prob': 1.1 * answer['log_prob']}

  assert 'log_prob is off by' in failure(
    TOKENS, answering(rounding, 'generate_v2', less_likely)
  )


def test_the_tolerance_grows_with_the_layers():
  assert subject.tolerance('float32', 12) == 1e-4
  assert subject.tolerance('int8', 12) == pytest.approx(7 / 256)
  assert subject.tolerance('bfloat16', 12) == pytest.approx(math.sqrt(98) / 128)


def follow(reference, tokens, allowed):
  options = {'max_new_tokens': [len(tokens)]}
  greedy = subject.Request(len(tokens), temperature=0).options(1) | options
  found = parity_checks._follow(reference, b'ab', greedy, tokens, allowed)
  return found['tokens'].tolist()


def test_a_token_may_be_another_only_where_two_are_as_likely(rounding):
  """A tolerance as large as the difference of logits allows the second."""
  ref = rounding.reference
  (first,) = follow(ref, [0], 0.0)
  logits = parity_checks.gpt(
    parity_checks._encode(ref, b'ab', 12)[None], ref.weights, ref.config
  ).numpy()[0, -1]
  second = int(logits.argsort()[-2])
  distance = float(logits[first] - logits[second]) / subject.size_of(logits)
  assert distance > 0
  assert follow(ref, [second], 0.49 * distance) == [first]
  assert follow(ref, [second], 0.51 * distance) == [second]
