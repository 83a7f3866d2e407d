"""What an exported model must share with the model it was made from.

The live side is computed with the functions that the model is trained with,
one row at a time and without padding, its text cut by the Python tokenizer.

Shapes: B rows, T tokens, V vocabulary.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from minigpt.checkpoints.loading import Trained
from minigpt.config import GPTConfig
from minigpt.conformance.signature_checks import Subject, rows, same
from minigpt.generation import decode, logits_processors
from minigpt.generation.generator import Request, encode_prompt
from minigpt.kernels.quantize import quantize
from minigpt.model.layers import cross_entropy
from minigpt.model.params import Params
from minigpt.model.transformer import gpt, hidden_states, unembed
from minigpt.serving.client import sampling_inputs
from minigpt.tokenizers import Tokenizer


class Live(NamedTuple):
  """The model that was trained, with its weights as the export has them."""

  params: Params
  config: GPTConfig
  tokenizer: Tokenizer


def live(trained: Trained, weights: str) -> Live:
  """Raises UsageError for weights of a format that does not exist."""
  params = quantize(trained.model.params, weights, exported=True)
  return Live(params, trained.run.model, trained.tokenizer)


def random_ids(model: Live, n_tokens: int, seed: int) -> np.ndarray:
  """Any tokens, so that every row of the embedding has its chance."""
  rng = np.random.default_rng(seed)
  return rng.integers(model.config.vocab_size, size=n_tokens, dtype=np.int32)


def texts(subject: Subject) -> list[bytes]:
  """A short one, one that fits, and one longer than the context."""
  model = subject.live
  context = model.config.context_length
  return [
    model.tokenizer.decode(random_ids(model, n, n)).encode()
    for n in (3, context // 2, context + 5)
  ]


def read(model: Live, text: bytes, limit: int) -> np.ndarray:  # -> int32 [T]
  return encode_prompt(model.tokenizer, text.decode())[-limit:]


def logits(subject: Subject) -> str:
  """`prefill` at every position of the context, against `gpt`."""
  model = subject.live
  context = model.config.context_length
  ids = random_ids(model, context, 0)
  lengths = np.array([context, context // 2 + 1, 1], np.int32)
  inputs = {'ids': np.stack([ids] * 3), 'prompt_len': lengths}
  answer = subject.endpoint.predict('prefill', inputs)
  hidden = hidden_states(ids[None], model.params, model.config)[0]
  expected = unembed(
    tf.gather(hidden, lengths - 1), model.params, model.config
  ).numpy()
  worst = max(
    same(f'prefill of {n} tokens', row, {'logits': expected[i]})
    for i, (n, row) in enumerate(zip(lengths, rows(answer), strict=True))
  )
  return f'largest error {worst:.1g}'


def scores(subject: Subject) -> str:
  """`score` against the loss of the live model on the same tokens."""
  model, worst = subject.live, 0.0
  inputs = texts(subject)
  answer = rows(subject.endpoint.predict('score', {'text': inputs}))
  for i, (text, row) in enumerate(zip(inputs, answer, strict=True)):
    ids = read(model, text, model.config.context_length + 1)
    found = gpt(ids[None, :-1], model.params, model.config)
    nats = cross_entropy(found, ids[None, 1:]).numpy()
    expected = {
      'num_tokens': len(ids) - 1,
      'log_prob': -np.sum(nats),
      'perplexity': math.exp(np.mean(nats)) if nats.size else 1.0,
    }
    worst = max(worst, same(f'score: text {i}', row, expected))
  return f'largest error {worst:.1g}'


def embeddings(subject: Subject) -> str:
  """`embed` against the mean of the live model's last hidden states."""
  model, worst = subject.live, 0.0
  inputs = texts(subject)
  answer = rows(subject.endpoint.predict('embed', {'text': inputs}))
  for i, (text, row) in enumerate(zip(inputs, answer, strict=True)):
    ids = read(model, text, model.config.context_length)
    hidden = hidden_states(ids[None], model.params, model.config)
    expected = {'embedding': np.mean(hidden, (0, 1))}
    worst = max(worst, same(f'embed: text {i}', row, expected))
  return f'largest error {worst:.1g}'


def next_tokens(subject: Subject) -> str:
  """`next_token` against the softmax of the live model's logits."""
  model, worst = subject.live, 0.0
  k = min(3, model.config.vocab_size)
  prompts = texts(subject)
  inputs = {'prompt': prompts, 'k': np.full([len(prompts)], k, np.int32)}
  answer = rows(subject.endpoint.predict('next_token', inputs))
  for i, (text, row) in enumerate(zip(prompts, answer, strict=True)):
    ids = read(model, text, model.config.context_length)
    found = gpt(ids[None], model.params, model.config)[0, -1]
    best = np.sort(tf.nn.softmax(found))[::-1][:k]
    got = {'probabilities': row['probabilities'][:k]}
    expected = {'probabilities': best}
    worst = max(worst, same(f'next_token: text {i}', got, expected))
  return f'largest error {worst:.1g}'


def greedy_tokens(subject: Subject) -> str:
  """`generate` at temperature 0."""
  return _same_tokens(subject, Request(subject.n_new, temperature=0))


def sampled_tokens(subject: Subject) -> str:
  """`generate` with seeds; filters and rules differ from row to row."""
  return _same_tokens(subject, Request(subject.n_new, 1.0, 5, 0.9, seed=7))


def _same_tokens(subject: Subject, request: Request) -> str:
  prompts = texts(subject)
  inputs = {'prompt': prompts, **sampling_inputs(request, len(prompts))}
  inputs['top_k'][0], inputs['top_p'][-1] = 0, 1  # Without one of them.
  inputs['repetition_penalty'][-1], inputs['min_new_tokens'][0] = 1.3, 1
  answer = rows(subject.endpoint.predict('generate', inputs))
  for i, row in enumerate(answer):
    expected = _generate(subject.live, {k: v[i] for k, v in inputs.items()})
    same(f'generate: text {i}', row, expected)
  return f'{sum(row["num_tokens"] for row in answer)} tokens'


def _generate(model: Live, row: dict) -> dict:
  """Tokens, and the sum of their log-probabilities, of one row."""
  ids = read(model, row['prompt'], model.config.context_length)
  n_new = int(row['max_new_tokens'])
  n_slots = min(model.config.context_length, len(ids) + n_new)
  p, config = model.params, model.config
  state = decode.start(ids[None], tf.constant([len(ids)]), p, config, n_slots)
  keys = ('temperature', 'top_k', 'top_p', 'seed')
  sampling = decode.Sampling(*(tf.constant([row[key]]) for key in keys))
  state, drawn = decode.generate(
    state,
    tf.constant(n_new),
    n_new,
    sampling,
    p,
    config,
    model.tokenizer.end_of_text,
    logits_processors.Rules(
      tf.constant([row['repetition_penalty']]),
      tf.constant([row['min_new_tokens']]),
    ),
  )
  n_drawn = int(state.n_drawn[0])
  return {
    'tokens': drawn.tokens[0, :n_drawn].numpy(),
    'log_prob': np.sum(drawn.log_prob),
  }


CHECKS = {
  'logits, live': logits,
  'scores, live': scores,
  'embeddings, live': embeddings,
  'next tokens, live': next_tokens,
  'greedy tokens, live': greedy_tokens,
  'sampled tokens, live': sampled_tokens,
}
