"""Checks of an export against the trained model that it was made from.

The reference results come from the functions used in training, one row at a
time and without padding; the Python tokenizer encodes the text.

Shapes: B rows, T tokens, V vocabulary.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from minigpt.checkpoints.loading import LoadedModel
from minigpt.conformance.subject import (
  CheckFunction,
  ModelUnderTest,
  size_of,
  spell,
  split_rows,
)
from minigpt.generation import decode
from minigpt.generation.logits_processors import select_rules
from minigpt.generation.request import Request
from minigpt.generation.sampling import select_sampling
from minigpt.kernels.quantize import quantize
from minigpt.model.layers import cross_entropy
from minigpt.model.transformer import gpt, hidden_states, unembed
from minigpt.serving.sampling_inputs import (
  fields_of,
  newest_version,
  signature_name,
)
from minigpt.tokenizers import encode_prompt


def as_exported(model: LoadedModel, weights: str) -> LoadedModel:
  """Returns the model with its weights in the export's format.

  Raises:
    UsageError: there is no such format.
  """
  stored = quantize(model.weights, weights, exported=True)
  return model._replace(weights=stored)


def _random_ids(ref: LoadedModel, n_tokens: int, seed: int) -> np.ndarray:
  """Draws tokens from the whole vocabulary, int32 [n_tokens]."""
  rng = np.random.default_rng(seed)
  return rng.integers(ref.config.vocab_size, size=n_tokens, dtype=np.int32)


def _example_texts(ref: LoadedModel) -> list[bytes]:
  """Returns a short text, a longer one, and one longer than the context."""
  context = ref.config.context_length
  return [
    ref.tokenizer.decode(_random_ids(ref, n, n)).encode()
    for n in (3, context // 2, context + 5)
  ]


def _encode(ref: LoadedModel, text: bytes, limit: int) -> np.ndarray:
  """Returns the last tokens of a text, int32 [T], T at most `limit`."""
  return encode_prompt(ref.tokenizer, text.decode())[-limit:]


def logits(model: ModelUnderTest) -> str:
  """Compares `prefill`, at three lengths of the prompt, with `gpt`."""
  ref = model.reference
  context = ref.config.context_length
  ids = _random_ids(ref, context, 0)
  lengths = np.array([context, context // 2 + 1, 1], np.int32)
  inputs = {'ids': np.stack([ids] * 3), 'prompt_len': lengths}
  answer = split_rows(model.endpoint.predict('prefill', inputs))
  # The model is causal, so one pass gives the logits after each prompt.
  hidden = hidden_states(ids[None], ref.weights, ref.config)[0]
  last = tf.gather(hidden, lengths - 1)
  expected = unembed(last, ref.weights, ref.config).numpy()
  worst = 0.0
  for n, row, own in zip(lengths, answer, expected, strict=True):
    what, found = f'prefill of {n} tokens', row['logits']
    if model.files.compute_dtype != 'float32':
      # A constant added to all logits has a rounding error, but no effect.
      found, own = found - np.mean(found), own - np.mean(own)
    got = {'logits': found}
    worst = max(worst, model.compare_row(what, got, {'logits': own}))
  return f'largest error {worst:.1g}'


def scores(model: ModelUnderTest) -> str:
  """Compares `score` with the reference's loss of the same tokens."""
  ref, worst = model.reference, 0.0
  texts = _example_texts(ref)
  answer = split_rows(model.endpoint.predict('score', {'text': texts}))
  for i, (text, row) in enumerate(zip(texts, answer, strict=True)):
    ids = _encode(ref, text, ref.config.context_length + 1)
    found = gpt(ids[None, :-1], ref.weights, ref.config)
    nats = cross_entropy(found, ids[None, 1:]).numpy()
    expected = {
      'num_tokens': len(ids) - 1,
      'log_prob': -np.sum(nats),
      'perplexity': math.exp(np.mean(nats)) if nats.size else 1.0,
    }
    worst = max(worst, model.compare_row(f'score: text {i}', row, expected))
  return f'largest error {worst:.1g}'


def embeddings(model: ModelUnderTest) -> str:
  """Compares `embed` with the mean of the reference's last hidden states."""
  ref, worst = model.reference, 0.0
  texts = _example_texts(ref)
  answer = split_rows(model.endpoint.predict('embed', {'text': texts}))
  for i, (text, row) in enumerate(zip(texts, answer, strict=True)):
    ids = _encode(ref, text, ref.config.context_length)
    hidden = hidden_states(ids[None], ref.weights, ref.config)
    expected = {'embedding': np.mean(hidden, (0, 1))}
    worst = max(worst, model.compare_row(f'embed: text {i}', row, expected))
  return f'largest error {worst:.1g}'


def next_tokens(model: ModelUnderTest) -> str:
  """Compares `next_token` with the softmax of the reference's logits."""
  ref, worst = model.reference, 0.0
  k = min(3, ref.config.vocab_size)
  prompts = _example_texts(ref)
  inputs = {'prompt': prompts, 'k': np.full([len(prompts)], k, np.int32)}
  answer = split_rows(model.endpoint.predict('next_token', inputs))
  for i, (text, row) in enumerate(zip(prompts, answer, strict=True)):
    ids = _encode(ref, text, ref.config.context_length)
    found = gpt(ids[None], ref.weights, ref.config)[0, -1]
    best = np.sort(tf.nn.softmax(found))[::-1][:k]
    got = {'probabilities': row['probabilities'][:k]}
    expected = {'probabilities': best}
    worst = max(
      worst, model.compare_row(f'next_token: text {i}', got, expected)
    )
  return f'largest error {worst:.1g}'


def greedy_tokens(model: ModelUnderTest) -> str:
  """Compares `generate` at temperature 0."""
  return _compare_tokens(model, Request(model.n_new, temperature=0).options(3))


def sampled_tokens(model: ModelUnderTest) -> str:
  """Compares `generate` with different seeds, filters and rules by row."""
  options = Request(model.n_new, temperature=1.0, seed=7).options(3)
  known = fields_of(newest_version(model.endpoint.signatures()))
  for place, (name, field) in enumerate(known.items()):
    if field.stage != 'loop' and name not in ('temperature', 'seed'):
      # Each row leaves some options at their defaults, to mix the batch.
      options[name][np.arange(3) != place % 3] = field.example
  return _compare_tokens(model, options)


def _compare_tokens(model: ModelUnderTest, options: dict[str, Any]) -> str:
  """Compares the newest version of `generate`, under options [3]."""
  ref = model.reference
  prompts = _example_texts(ref)
  version = newest_version(model.endpoint.signatures())
  name = signature_name('generate', version)
  inputs = {key: options[key] for key in fields_of(version)}
  answer = model.endpoint.predict(name, {'prompt': prompts, **inputs})
  for i, row in enumerate(split_rows(answer)):
    own = {key: values[i : i + 1] for key, values in options.items()}
    if model.files.compute_dtype == 'float32':
      expected = _generate(ref, prompts[i], own)
    else:
      allowed = model.files.tolerance
      expected = _follow(ref, prompts[i], own, row['tokens'], allowed)
    if _ended_at_stop(ref, row):
      expected = {key: x[: row['num_tokens']] for key, x in expected.items()}
    expected['log_prob'] = np.sum(expected['log_prob'])
    model.compare_row(f'{name}: text {i}', row, expected)
  return f'{sum(answer["num_tokens"])} tokens'


def _ended_at_stop(ref: LoadedModel, row: Mapping[str, Any]) -> bool:
  """Tells whether a stop string of the export, unknown here, ended the row."""
  return row['text_bytes'] != spell(ref.tokenizer, row['tokens'])


def _generate(
  ref: LoadedModel, prompt: bytes, options: dict[str, Any]
) -> dict[str, Any]:
  """Returns one row's tokens and their log-probabilities."""
  p, config = ref.weights, ref.config
  n_new = int(options['max_new_tokens'][0])
  state = _start(ref, prompt, n_new)
  state, sampled = decode.generate(
    state,
    tf.constant(n_new),
    n_new,
    select_sampling(options),
    p,
    config,
    ref.tokenizer.end_of_text,
    select_rules(options),
  )
  n_sampled = int(state.n_sampled[0])
  return {
    'tokens': sampled.tokens[0, :n_sampled].numpy(),
    'log_prob': sampled.log_prob[0, :n_sampled].numpy(),
  }


def _start(ref, prompt, n_new):
  """Returns the state of one prompt, with room for its new tokens."""
  config = ref.config
  ids = _encode(ref, prompt, config.context_length)
  n_slots = min(config.context_length, len(ids) + n_new)
  length = tf.constant([len(ids)])
  return decode.start(ids[None], length, ref.weights, config, n_slots)


def _follow(
  ref: LoadedModel,
  prompt: bytes,
  options: dict[str, Any],
  tokens: np.ndarray,
  allowed: float,
) -> dict[str, Any]:
  """Generates like `_generate`, but follows `tokens` within rounding errors.

  Where the reference samples another token than `tokens` has, it samples again,
  with the logit of the token in `tokens` raised and that of its own choice
  lowered by as much as rounding may change them. It continues with the result,
  whichever token that is.
  """
  p, config, stop_token = ref.weights, ref.config, ref.tokenizer.end_of_text
  n_new = int(options['max_new_tokens'][0])
  state = _start(ref, prompt, n_new)
  found: list[tuple[int, float]] = []
  rules = select_rules(options)

  def decode_one(bias):
    how = p, config, stop_token, rules._replace(bias=bias)
    return decode.decode_one(state, ~state.done, select_sampling(options), *how)

  while len(found) < n_new and not state.done[0]:
    after, new = decode_one(())
    if len(found) < len(tokens) and new.tokens[0] != tokens[len(found)]:
      logits, _ = decode.decode_step(state, p, config)
      pair = tf.one_hot([tokens[len(found)], new.tokens[0]], config.vocab_size)
      bias = allowed * size_of(logits[0]) * (pair[0] - pair[1])
      after, new = decode_one(bias[None])
    state = after
    found.append((int(new.tokens[0]), float(new.log_prob[0])))
  ids, log_prob = zip(*found, strict=True)
  return {'tokens': np.array(ids), 'log_prob': np.array(log_prob)}


CHECKS: dict[str, CheckFunction] = {
  'logits, live': logits,
  'scores, live': scores,
  'embeddings, live': embeddings,
  'next tokens, live': next_tokens,
  'greedy tokens, live': greedy_tokens,
  'sampled tokens, live': sampled_tokens,
}
