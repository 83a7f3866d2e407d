"""Checks of answers against each other.

They need no trained model: swapped or wrong outputs contradict another
signature, or another output of the same signature.

Shapes: V vocabulary.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from minigpt.conformance.subject import (
  CheckError,
  CheckFunction,
  ModelUnderTest,
  NotApplicableError,
  example_inputs,
  predict_example,
  spell,
  split_rows,
)
from minigpt.generation.request import Request
from minigpt.serving.client import generate, step_inputs, stream
from minigpt.serving.export_files import ExportFiles
from minigpt.serving.sampling_inputs import sampling_inputs


def text_of_tokens(model: ModelUnderTest) -> str:
  """Checks that text, bytes, tokens and number of tokens agree."""
  tokenizer = model.files.tokenizer
  for name in ('serving_default', 'generate', 'generate_ids'):
    for i, row in enumerate(split_rows(predict_example(model, name))):
      shown = row['text_bytes'].decode('utf-8', 'replace').encode()
      model.compare_row(f'{name}: row {i}', row, {'text': shown})
      if tokenizer and 'tokens' in row:
        spelled = spell(tokenizer, row['tokens'])
        # Not equal: a stop string of the export may cut the text off.
        if not spelled.startswith(row['text_bytes']):
          raise CheckError(f'{name}: row {i} is not what its tokens spell')
  return 'with the tokenizer' if tokenizer else 'no tokenizer at hand'


def _greedy_inputs(
  model: ModelUnderTest, name: str, n_new: int
) -> dict[str, Any]:
  """Returns inputs for greedy decoding without penalties."""
  greedy = sampling_inputs(Request(n_new, temperature=0), model.n_rows)
  return example_inputs(model, name) | greedy


def greedy_by_steps(model: ModelUnderTest) -> str:
  """Compares `generate_ids` with `prefill` and then `decode_step`."""
  n_new = min(4, model.n_new)
  inputs = _greedy_inputs(model, 'generate_ids', n_new)
  generated = split_rows(model.endpoint.predict('generate_ids', inputs))
  tokens, log_prob = _decode_greedily(model, n_new)
  for i, row in enumerate(generated):
    if row['num_tokens'] == n_new:  # Rows that stopped early are shorter.
      expected = {'tokens': tokens[i], 'log_prob': log_prob[i]}
      model.compare_row(f'generate_ids: row {i} by steps', row, expected)
  return f'{n_new} tokens'


def _decode_greedily(
  model: ModelUnderTest, n_new: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns tokens, int [3, n_new], and their log-probability, f32 [3]."""
  state = predict_example(model, 'prefill')
  log_prob = np.zeros(model.n_rows)
  tokens = []
  for i in range(n_new):
    tokens.append(np.argmax(state['logits'], -1))
    log_prob += np.max(_log_softmax(state['logits']), -1)
    step = step_inputs(state, tokens[-1], model.prompt_len + i)
    state = model.endpoint.predict('decode_step', step)
  return np.stack(tokens, -1), log_prob


def _log_softmax(x: np.ndarray) -> np.ndarray:  # [..., V] -> [..., V]
  x = x - np.max(x, -1, keepdims=True)
  return x - np.log(np.sum(np.exp(x), -1, keepdims=True))


def scores(model: ModelUnderTest) -> str:
  """Checks that perplexity is exp(-log_prob / num_tokens) in each row."""
  for i, row in enumerate(split_rows(predict_example(model, 'score'))):
    if row['num_tokens'] > 0:
      expected = math.exp(-row['log_prob'] / row['num_tokens'])
      model.compare_row(f'score: row {i}', row, {'perplexity': expected})
  return f'{model.n_rows} texts'


def next_tokens(model: ModelUnderTest) -> str:
  """Checks that `next_token` sorts, and that `generate` takes its first."""
  inputs = _greedy_inputs(model, 'generate', 1)
  generated = split_rows(model.endpoint.predict('generate', inputs))
  for i, row in enumerate(split_rows(predict_example(model, 'next_token'))):
    first = {'tokens': row['tokens'][0]}
    expected = {'tokens': generated[i]['tokens'][0]}
    model.compare_row(f'next_token: row {i}', first, expected)
    p = row['probabilities']
    if not (
      np.all(np.diff(p) <= 0) and 0 < np.sum(p) <= 1 + model.files.tolerance
    ):
      raise CheckError(f'next_token: row {i} has probabilities {p!r:.80}')
  return f'{model.n_rows} prompts'


def defaults(model: ModelUnderTest) -> str:
  """Compares `serving_default` with `generate` at default options."""
  usual = sampling_inputs(Request(), model.n_rows)
  # Every row of `serving_default` samples with the same seed.
  usual['seed'][:] = Request().seed
  usual['max_new_tokens'][:] = min(model.n_new, Request().max_new_tokens)
  inputs = example_inputs(model, 'generate') | usual
  begun = split_rows(model.endpoint.predict('generate', inputs))
  answers = split_rows(predict_example(model, 'serving_default'))
  for i, row in enumerate(answers):
    if not row['text_bytes'].startswith(begun[i]['text_bytes']):
      raise CheckError(f'serving_default: row {i} begins unlike generate')
  return f'{model.n_new} tokens'


def streaming(model: ModelUnderTest) -> str:
  """Compares streamed texts, sampled and greedy, with those of `generate`."""
  files = model.files
  if files.tokenizer is None or files.context_length is None:
    raise NotApplicableError('needs --export_dir or --workdir')
  known = ExportFiles(
    '', files.tokenizer, files.context_length, stop=files.stop
  )
  sampled = Request(
    model.n_new,
    temperature=1.0,
    top_p=0.95,
    seed=3,
    repetition_penalty=1.2,
    min_new_tokens=1,
  )
  for request in (sampled, Request(model.n_new, temperature=0.0)):
    _compare_streams(model, known, request)
  return f'{model.n_rows} prompts, sampled and greedy'


def _compare_streams(
  model: ModelUnderTest, known: ExportFiles, request: Request
) -> None:
  """Raises CheckError if a streamed text differs from the generated one."""
  prompts = [prompt.decode() for prompt in model.prompts]
  for i, answer in enumerate(generate(model.endpoint, prompts, request)):
    own = replace(request, seed=request.seed + i)
    text = ''.join(stream(model.endpoint, prompts[i], own, known))
    # Without the export's files, the client does not know its stop strings.
    seen = text if model.files.export_dir else text[: len(answer.text)]
    if seen != answer.text:
      raise CheckError(f'row {i} is streamed otherwise than generated')


CHECKS: dict[str, CheckFunction] = {
  'text of tokens': text_of_tokens,
  'greedy by steps': greedy_by_steps,
  'scores': scores,
  'next tokens': next_tokens,
  'defaults': defaults,
  'streaming': streaming,
}
