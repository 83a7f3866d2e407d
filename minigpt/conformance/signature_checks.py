"""Checks of signatures: names, batch dimension, and rows in batches.

Shapes: B rows.
"""

from pathlib import Path

import numpy as np

from minigpt.conformance.serving_session import read_saved_model
from minigpt.conformance.subject import (
  CheckError,
  CheckFunction,
  ModelUnderTest,
  NotApplicableError,
  example_inputs,
  known_signatures,
  predict_example,
  split_rows,
  take_rows,
)
from minigpt.errors import UsageError
from minigpt.serving import grpc_endpoint, warmup
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.sampling_inputs import fields_of

WARMUP = Path('assets.extra') / warmup.FILE
_MOST_WARMUP_RECORDS = 1000  # TensorFlow Serving refuses a file with more.
# Older exports have only version 1 of `generate`.
_SAMPLING = tuple(fields_of(1))
_TEXT = ('text', 'text_bytes')
_GENERATED = (*_TEXT, 'tokens', 'num_tokens', 'log_prob')
_DROPPED = 'num_dropped'
_CACHE = ('keys', 'values')
# Inputs and outputs that clients rely on; an export may have more outputs.
TABLE = {
  'serving_default': (('prompt',), _TEXT),
  'generate': (('prompt', *_SAMPLING), _GENERATED),
  'generate_ids': (('ids', 'prompt_len', *_SAMPLING), _GENERATED),
  'score': (('text',), ('log_prob', 'num_tokens', 'perplexity', _DROPPED)),
  'embed': (('text',), ('embedding', _DROPPED)),
  'next_token': (('prompt', 'k'), ('tokens', 'probabilities', *_TEXT)),
  'prefill': (('ids', 'prompt_len'), ('logits', *_CACHE)),
  'decode_step': (('token', 'position', *_CACHE), ('logits', *_CACHE)),
}


def all_signatures(model: ModelUnderTest) -> str:
  """Checks that all signatures of TABLE exist, with all inputs and outputs."""
  found = model.endpoint.signatures()
  for name, (inputs, outputs) in TABLE.items():
    if name not in found:
      raise CheckError(f'there is no signature {name}')
    absent = {*inputs} - {*found[name].inputs}
    absent |= {*outputs} - {*found[name].outputs}
    if absent:
      raise CheckError(f'{name} lacks {", ".join(sorted(absent))}')
  unknown = {*found} - {*known_signatures(model)}
  left = f'; not checked: {", ".join(sorted(unknown))}' if unknown else ''
  return f'{len(found)} signatures{left}'


def batch_dimension(model: ModelUnderTest) -> str:
  """Checks that dimension 0 of every tensor, the batch, has any size."""
  n_tensors = 0
  found = model.endpoint.signatures()
  for name in known_signatures(model):
    signature = found[name]
    for spec in (*signature.inputs.values(), *signature.outputs.values()):
      if not spec.shape.rank or spec.shape[0] is not None:
        raise CheckError(f'{name}: {spec.name} has the shape {spec.shape}')
      n_tensors += 1
  return f'{n_tensors} tensors of any number of rows'


def no_jit(model: ModelUnderTest) -> str:
  """Checks that no function is to be compiled with XLA.

  In an unmodified TensorFlow Serving, an export with such a function loads, but
  fails at the first request.
  """
  if model.files.export_dir is None:
    raise NotApplicableError('needs --export_dir')
  graph = read_saved_model(model.files.export_dir).graph_def
  functions = graph.library.function
  for function in functions:
    if function.attr['_XlaMustCompile'].b:
      raise CheckError(f'{function.signature.name} is compiled with XLA')
  for nodes in (graph.node, *(f.node_def for f in functions)):
    for node in nodes:
      if node.attr['_XlaMustCompile'].b or node.op.startswith('XlaLaunch'):
        raise CheckError(f'node {node.name} is compiled with XLA')
  return f'{len(functions)} functions'


def every_signature_answers(model: ModelUnderTest) -> str:
  """Checks that each signature returns as many rows as it gets, and no NaN."""
  n_rows = model.n_rows
  for name in known_signatures(model):
    for key, array in predict_example(model, name).items():
      if array.shape[:1] != (n_rows,):
        raise CheckError(f'{name}: {key} has {array.shape} for {n_rows} rows')
      if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise CheckError(f'{name}: {key} holds NaN or infinity')
  return f'{n_rows} rows each'


def warmup_requests(model: ModelUnderTest) -> str:
  """Replays the warm-up requests.

  A server does not load a version of which one fails.
  """
  if model.files.export_dir is None:
    raise NotApplicableError('needs --export_dir')
  path = model.files.export_dir / WARMUP
  if not path.is_file():
    raise NotApplicableError(f'there is no {WARMUP}')
  records = list(grpc_endpoint.warmup_records(path))
  if not 0 < len(records) <= _MOST_WARMUP_RECORDS:
    raise CheckError(
      f'{len(records)} records; a server takes 1 to {_MOST_WARMUP_RECORDS}'
    )
  for number, (name, inputs) in enumerate(records):
    try:
      model.endpoint.predict(name, inputs)
    except (EndpointError, UsageError) as error:
      raise CheckError(f'record {number}: {error}') from None
  sizes = {len(next(iter(inputs.values()))) for _, inputs in records}
  return f'{len(records)} records of {sorted(sizes)} rows'


def batch_invariance(model: ModelUnderTest) -> str:
  """Compares a row alone, among others, and in a padded batch.

  TensorFlow Serving pads a batch with copies of its first row.
  """
  names = known_signatures(model)
  for name in names:
    inputs = example_inputs(model, name)

    def answers(index, name=name, inputs=inputs):
      rows = take_rows(inputs, index)
      return split_rows(model.endpoint.predict(name, rows))

    together, padded = answers([0, 1, 2]), answers([0, 1, 2, 0, 0])
    for i in range(model.n_rows):
      what = f'{name}: row {i}'
      model.compare_row(f'{what} in a padded batch', padded[i], together[i])
      model.compare_row(f'{what} alone', answers([i])[0], together[i])
    model.compare_row(f'{name}: a repeated row', padded[4], padded[0])
  return f'{len(names)} signatures, {model.n_rows} rows'


def large_requests(model: ModelUnderTest) -> str:
  """Sends more rows than the largest batch, and compares them with few rows.

  TensorFlow Serving splits such a request, or refuses it, depending on its
  batching configuration.
  """
  names = known_signatures(model)
  n_times = model.files.largest_batch // model.n_rows + 1
  index = list(range(model.n_rows)) * n_times
  for name in names:
    inputs = example_inputs(model, name)
    few = split_rows(model.endpoint.predict(name, inputs))
    many = model.endpoint.predict(name, take_rows(inputs, index))
    for i, row in enumerate(split_rows(many)):
      what = f'{name}: row {i} of {len(index)}'
      model.compare_row(what, row, few[index[i]])
  return f'{len(names)} signatures, {len(index)} rows'


CHECKS: dict[str, CheckFunction] = {
  'signatures': all_signatures,
  'batch dimension': batch_dimension,
  'no jit function': no_jit,
  'every signature answers': every_signature_answers,
  'warm-up requests': warmup_requests,
  'batch invariance': batch_invariance,
  'large requests': large_requests,
}
