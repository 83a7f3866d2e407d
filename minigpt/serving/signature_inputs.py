"""The inputs of each signature, as specs for `tf.function`.

docs/reference/signatures.md describes them.
"""

import tensorflow as tf

from minigpt.config import GPTConfig
from minigpt.serving.sampling_inputs import (
  fields_of,
  signature_name,
  versions,
  with_grammar,
)

# The inputs of a signature, by name.
Inputs = dict[str, tf.TensorSpec]


def signature_inputs(
  config: GPTConfig, grammars: bool, attention: bool
) -> dict[str, Inputs]:
  """Returns the inputs of each signature, by its name.

  Args:
    config: of the model.
    grammars: add the signatures with grammars.
    attention: add the signature `attention`.
  """
  prompt = {'prompt': _rows(tf.string)}
  text = {'text': _rows(tf.string)}
  shown = {'attention': prompt} if attention else {}
  signatures = {
    'serving_default': prompt,
    **_generating(grammars),
    'score': text,
    'embed': text,
    'next_token': prompt | {'k': _rows(tf.int32)},
    'prefill': _ids(),
    'decode_step': _decode_step(config),
    **shown,
  }
  return {name: _named(inputs) for name, inputs in signatures.items()}


def _generating(grammars: bool) -> dict[str, Inputs]:
  """Returns the inputs of all versions of the signatures that generate."""
  chunk = {
    'num_sampled': _rows(tf.int32),
    'num_alternatives': _rows(tf.int32),
    'stop': _rows(tf.string, None),
  }
  prompts = {
    'generate': {'prompt': _rows(tf.string)},
    'generate_ids': _ids(),
    'generate_chunk': _ids() | chunk,
  }
  if grammars:
    prompts |= _with_grammars(prompts)
  return {
    signature_name(base, version): prompt | _options(version)
    for base, prompt in prompts.items()
    for version in versions(base)
  }


def _with_grammars(prompts: dict[str, Inputs]) -> dict[str, Inputs]:
  """Returns the inputs of the signatures with grammars."""
  grammar = {'grammar': _rows(tf.string)}
  resumed = {'grammar_state': _rows(tf.int32), 'num_left': _rows(tf.int32)}
  more = {'generate_chunk': grammar | resumed}
  return {
    with_grammar(base): prompt | more.get(base, grammar)
    for base, prompt in prompts.items()
  }


def _ids() -> Inputs:
  return {'ids': _rows(tf.int32, None), 'prompt_len': _rows(tf.int32)}


def _decode_step(config: GPTConfig) -> Inputs:
  cache = _rows(
    tf.float32, config.n_layers, config.n_heads, None, config.head_dim
  )
  number = _rows(tf.int32)
  return {'token': number, 'position': number, 'keys': cache, 'values': cache}


def _options(version: int) -> Inputs:
  """Returns the sampling options of a version."""
  fields = fields_of(version)
  return {name: _rows(tf.as_dtype(f.dtype)) for name, f in fields.items()}


def _rows(dtype: tf.DType, *shape: int | None) -> tf.TensorSpec:
  """Returns the spec of an input [B, *shape]."""
  return tf.TensorSpec([None, *shape], dtype)


def _named(inputs: Inputs) -> Inputs:
  """Names each spec: a SavedModel takes the names of its inputs from them."""
  return {
    name: tf.TensorSpec(spec.shape, spec.dtype, name)
    for name, spec in inputs.items()
  }
