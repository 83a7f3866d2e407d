"""What must hold of an exported model before anyone deploys it.

Each check takes a `Subject` and returns in a few words what it found, or raises
`CheckError`. None of them knows what is behind the endpoint: the export in
a process of its own, or a server.

Shapes: B rows, T prompt tokens, N new tokens, V vocabulary.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigpt.conformance.serving_session import read_saved_model
from minigpt.errors import InputError, UsageError
from minigpt.generation.generator import Request, encode_prompt
from minigpt.serving import grpc_endpoint, warmup
from minigpt.serving.client import (
  generate,
  sampling_inputs,
  step_inputs,
  stream,
)
from minigpt.serving.endpoint import Arrays, Endpoint, EndpointError
from minigpt.tokenizers import Tokenizer

WARMUP = Path('assets.extra') / warmup.FILE
_SAMPLING = tuple(sampling_inputs(Request(), 1))
_TEXT = ('text', 'text_bytes')
_GENERATED = (*_TEXT, 'tokens', 'num_tokens', 'log_prob')
_DROPPED = 'num_dropped'
_CACHE = ('keys', 'values')
# Inputs and outputs that a client may count on; there may be more outputs.
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
_HARD = {
  'Unicode': 'a\u0301 \u6f22\u5b57 \U0001f469\u200d\U0001f467 \u202e'.encode(),
  'empty': b'',
  'NUL': b'a\0b',
  'invalid UTF-8': b'a\xff\xfe',
}
_TEXT_INPUTS = ('prompt', 'text')
_NAN = float('nan')
TOLERANCE = 1e-4  # of f32 results


class CheckError(Exception):
  """What a check found wrong, in one line."""


class NotApplicableError(Exception):
  """Why a check does not apply."""


class Check(NamedTuple):
  name: str
  status: str  # 'pass', 'fail' or 'skip'
  detail: str


class Subject(NamedTuple):
  """What is checked, and what it can be checked against."""

  endpoint: Endpoint
  prompts: list[bytes]  # three, of different lengths
  ids: np.ndarray  # int32 [3, T], the same text as tokens
  prompt_len: np.ndarray  # int32 [3]
  n_new: int  # how many new tokens the model agrees to
  export_dir: Path | None = None  # where its files are at hand
  tokenizer: Tokenizer | None = None  # of the export or of the run
  context_length: int | None = None
  live: Any = None  # of `live_checks`

  @property
  def n_rows(self) -> int:
    return len(self.prompts)


def prepare(endpoint: Endpoint, **more: Any) -> Subject:
  """Has the model write its own prompts: no vocabulary has other text.

  Args:
    more: further fields of the subject.

  Raises:
    EndpointError: it does not.
  """
  first = np.arange(3, dtype=np.int32)
  inputs = {'ids': first[:, None], 'prompt_len': np.ones_like(first)}
  inputs |= sampling_inputs(Request(temperature=1.0, seed=1), 3)
  for n_new in (8, 4, 2, 1):
    inputs['max_new_tokens'] = np.maximum(n_new // (1 + first), 1)
    try:
      wrote = endpoint.predict('generate_ids', inputs)
      break
    except EndpointError as error:
      if 'max_new_tokens' not in str(error) or n_new == 1:
        raise
  return Subject(
    endpoint,
    prompts=wrote['text'].tolist(),
    ids=wrote['tokens'][:, :n_new],
    prompt_len=np.maximum(wrote['num_tokens'], 1),
    n_new=n_new,
    **more,
  )


def run(
  checks: Mapping[str, Callable[[Subject], str]], subject: Subject
) -> Iterator[Check]:
  """Does one check after the other."""
  for name, check in checks.items():
    try:
      yield Check(name, 'pass', check(subject))
    except NotApplicableError as reason:
      yield Check(name, 'skip', str(reason))
    except (CheckError, InputError) as fault:
      yield Check(name, 'fail', str(fault))
    except (LookupError, ValueError) as error:  # Of arrays unlike the table.
      yield Check(name, 'fail', f'unreadable answer: {error!r:.200}')


def request(subject: Subject, name: str) -> dict[str, Any]:
  """Inputs of three different rows for a signature."""
  if name == 'decode_step':
    return _next_step(subject)
  values = {
    'prompt': subject.prompts,
    'text': subject.prompts,
    'ids': subject.ids,
    'prompt_len': subject.prompt_len,
    'k': np.full([subject.n_rows], 3, np.int32),
    **sampling_inputs(Request(), subject.n_rows),
    'max_new_tokens': np.minimum([4, 2, 3], subject.n_new, dtype=np.int32),
    'temperature': np.array([0, 0.8, 1.2], np.float32),
    'top_k': np.array([0, 5, 0], np.int32),
    'top_p': np.array([1, 1, 0.9], np.float32),
    'repetition_penalty': np.array([1, 1, 1.3], np.float32),
    'min_new_tokens': np.array([0, 1, 0], np.int32),
  }
  inputs = subject.endpoint.signatures()[name].inputs
  return {key: values[key] for key in inputs}


def _next_step(subject: Subject) -> dict[str, Any]:
  """`decode_step` with the likeliest token after each prompt."""
  before = subject.endpoint.predict('prefill', request(subject, 'prefill'))
  token = np.argmax(before['logits'], -1)
  return step_inputs(before, token, subject.prompt_len)


def predict(subject: Subject, name: str) -> Arrays:
  return subject.endpoint.predict(name, request(subject, name))


def all_signatures(subject: Subject) -> str:
  """Every signature of the table, with its names and a batch dimension."""
  found = subject.endpoint.signatures()
  for name, (inputs, outputs) in TABLE.items():
    if name not in found:
      raise CheckError(f'there is no signature {name}')
    absent = {*inputs} - {*found[name].inputs}
    absent |= {*outputs} - {*found[name].outputs}
    if absent:
      raise CheckError(f'{name} lacks {", ".join(sorted(absent))}')
  return f'{len(found)} signatures'


def batch_dimension(subject: Subject) -> str:
  """The server batches along dimension 0 of every tensor."""
  n = 0
  for name, signature in subject.endpoint.signatures().items():
    for spec in (*signature.inputs.values(), *signature.outputs.values()):
      if not spec.shape.rank or spec.shape[0] is not None:
        raise CheckError(f'{name}: {spec.name} has the shape {spec.shape}')
      n += 1
  return f'{n} tensors of any number of rows'


def no_jit(subject: Subject) -> str:
  """A jit function loads, and fails the first request of the stock server."""
  if subject.export_dir is None:
    raise NotApplicableError('needs --export_dir')
  graph = read_saved_model(subject.export_dir).graph_def
  functions = graph.library.function
  for function in functions:
    if function.attr['_XlaMustCompile'].b:
      raise CheckError(f'{function.signature.name} is compiled with XLA')
  for nodes in (graph.node, *(f.node_def for f in functions)):
    for node in nodes:
      if node.attr['_XlaMustCompile'].b or node.op.startswith('XlaLaunch'):
        raise CheckError(f'node {node.name} is compiled with XLA')
  return f'{len(functions)} functions'


def every_signature_answers(subject: Subject) -> str:
  """As many rows out as in, and numbers that are numbers."""
  n_rows = subject.n_rows
  for name in subject.endpoint.signatures():
    for key, array in predict(subject, name).items():
      if array.shape[:1] != (n_rows,):
        raise CheckError(f'{name}: {key} has {array.shape} for {n_rows} rows')
      if array.dtype.kind == 'f' and not np.isfinite(array).all():
        raise CheckError(f'{name}: {key} holds NaN or infinity')
  return f'{n_rows} rows each'


def warmup_requests(subject: Subject) -> str:
  """A record that fails keeps the server from loading the version."""
  if subject.export_dir is None:
    raise NotApplicableError('needs --export_dir')
  path = subject.export_dir / WARMUP
  if not path.is_file():
    raise NotApplicableError(f'there is no {WARMUP}')
  sizes = []
  for number, (name, inputs) in enumerate(grpc_endpoint.warmup_records(path)):
    try:
      subject.endpoint.predict(name, inputs)
    except (EndpointError, UsageError) as error:
      raise CheckError(f'record {number}: {error}') from None
    sizes.append(len(next(iter(inputs.values()))))
  if not 0 < len(sizes) <= 1000:
    raise CheckError(f'{len(sizes)} records; a server takes 1 to 1000')
  return f'{len(sizes)} records of {sorted(set(sizes))} rows'


def batch_invariance(subject: Subject) -> str:
  """A row alone, among others, and in a batch filled up with its first row."""
  names = list(subject.endpoint.signatures())
  for name in names:
    inputs = request(subject, name)
    together = rows(predict_rows(subject, name, inputs, [0, 1, 2]))
    padded = rows(predict_rows(subject, name, inputs, [0, 1, 2, 0, 0]))
    for i in range(subject.n_rows):
      alone = rows(predict_rows(subject, name, inputs, [i]))
      same(f'{name}: row {i} in a padded batch', padded[i], together[i])
      same(f'{name}: row {i} alone', alone[0], together[i])
    same(f'{name}: a repeated row', padded[4], padded[0])
  return f'{len(names)} signatures, {subject.n_rows} rows'


def id_padding(subject: Subject) -> str:
  """What stands after a row's last prompt token makes no difference."""
  for name in ('generate_ids', 'prefill'):
    inputs = request(subject, name)
    longer = np.pad(inputs['ids'], [[0, 0], [0, 3]], constant_values=1)
    expected = rows(subject.endpoint.predict(name, inputs))
    got = rows(subject.endpoint.predict(name, {**inputs, 'ids': longer}))
    for i in range(subject.n_rows):
      same(f'{name}: row {i} with other padding', got[i], expected[i])
  return 'generate_ids, prefill'


def predict_rows(
  subject: Subject, name: str, inputs: Arrays, index: list[int]
) -> Arrays:
  return subject.endpoint.predict(
    name, {key: _take(value, index) for key, value in inputs.items()}
  )


def _take(value, index):
  return [value[i] for i in index] if isinstance(value, list) else value[index]


def rows(outputs: Arrays) -> list[dict[str, Any]]:
  """Each row's outputs, less the padding and the caches, which hold some."""
  kept = {k: v for k, v in outputs.items() if v.ndim <= 2}
  n_rows = len(next(iter(kept.values())))
  result = [{k: v[i] for k, v in kept.items()} for i in range(n_rows)]
  for row in result:
    if 'tokens' in row and 'num_tokens' in row:
      row['tokens'] = row['tokens'][: row['num_tokens']]
  return result


def same(
  what: str, got: Mapping[str, Any], expected: Mapping[str, Any]
) -> float:
  """Compares rows: numbers to 1e-4 of the larger of them and 1.

  Returns:
    The largest error of a number.

  Raises:
    CheckError: something differs.
  """
  worst = 0.0
  for key, value in expected.items():
    if np.asarray(value).dtype.kind != 'f':
      if not np.array_equal(got[key], value):
        raise CheckError(
          f'{what}: {key} is {got[key]!r:.60}, not {value!r:.60}'
        )
      continue
    if np.shape(got[key]) != np.shape(value):
      raise CheckError(f'{what}: {key} has the shape {np.shape(got[key])}')
    error = np.abs(got[key] - value) / np.maximum(1, np.abs(value))
    worst = max(worst, float(np.max(error, initial=0)))
    if not worst <= TOLERANCE:
      raise CheckError(f'{what}: {key} is off by {worst:.2g}')
  return worst


def hard_prompts(subject: Subject) -> str:
  """Text like no other is answered, or refused by the input's name."""
  very_long = {'very long': b''.join(subject.prompts) * 2000}
  outcomes = []
  for kind, prompt in (_HARD | very_long).items():
    refused = {
      _refuses(subject, name, {key: [prompt, subject.prompts[0]]})
      for name, key in _text_signatures(subject)
    }
    if len(refused) > 1:
      raise CheckError(f'{kind}: some signatures refuse it, others do not')
    (refused,) = refused
    if subject.tokenizer:
      _check_outcome(subject, kind, prompt, refused)
    outcomes.append(f'{kind} {"refused" if refused else "answered"}')
  return ', '.join(outcomes)


def _check_outcome(
  subject: Subject, kind: str, prompt: bytes, refused: bool
) -> None:
  """Raises CheckError where the tokenizer would have it otherwise."""
  try:
    n_ids = len(encode_prompt(subject.tokenizer, prompt.decode()))
  except (UnicodeDecodeError, InputError, UsageError):
    n_ids = 0
  if refused != (n_ids == 0):
    raise CheckError(f'{kind}: {"refused" if refused else "answered"} wrongly')
  if n_ids:
    (row,) = rows(subject.endpoint.predict('score', {'text': [prompt]}))
    n_counted = 1 + row['num_tokens'] + row['num_dropped']
    if n_counted != n_ids:
      raise CheckError(f'{kind}: read as {n_counted} tokens, not {n_ids}')


def _text_signatures(subject: Subject) -> list[tuple[str, str]]:
  return [
    (name, key)
    for name, signature in subject.endpoint.signatures().items()
    for key in signature.inputs
    if key in _TEXT_INPUTS
  ]


def _refuses(subject: Subject, name: str, changed: dict[str, Any]) -> bool:
  """Whether a request of two rows is refused, for good reason.

  Raises:
    CheckError: the refusal does not name the first of the `changed` inputs.
  """
  inputs = request(subject, name)
  inputs = {key: _take(value, [0, 0]) for key, value in inputs.items()}
  try:
    subject.endpoint.predict(name, inputs | changed)
    return False
  except EndpointError as error:
    field = next(iter(changed))
    named = re.search(rf'\b{field}\b', str(error))
    if error.kind != 'INVALID_ARGUMENT' or not named:
      value = changed[field][0]
      raise CheckError(f'{name}: {field}={value!r:.20}: {error}') from None
    return True


def bad_values(subject: Subject) -> str:
  """Each is refused by name, and the next request is answered."""
  bad = (
    ('temperature', -1.0),
    ('temperature', _NAN),
    ('top_p', 0.0),
    ('top_p', 1.5),
    ('top_p', _NAN),
    ('top_k', -1),
    ('max_new_tokens', 0),
    ('max_new_tokens', 2**30),
    ('repetition_penalty', 0.0),
    ('repetition_penalty', _NAN),
    ('min_new_tokens', -1),
    ('min_new_tokens', 2**30),
  )
  for name in ('generate', 'generate_ids'):
    good = request(subject, name)
    for field, value in bad:
      changed = {field: np.array([value, good[field][0]], good[field].dtype)}
      if not _refuses(subject, name, changed):
        raise CheckError(f'{name} accepts {field}={value}')
  predict(subject, 'generate')
  return f'{len(bad)} refused by name'


def text_of_tokens(subject: Subject) -> str:
  """`text`, `text_bytes`, `tokens` and `num_tokens` are one answer."""
  for name in ('serving_default', 'generate', 'generate_ids'):
    for i, row in enumerate(rows(predict(subject, name))):
      shown = row['text_bytes'].decode('utf-8', 'replace').encode()
      same(f'{name}: row {i}', row, {'text': shown})
      if subject.tokenizer and 'tokens' in row:
        spelled = _spell(subject.tokenizer, row['tokens'])
        # An export may end its answers at stop strings.
        if not spelled.startswith(row['text_bytes']):
          raise CheckError(f'{name}: row {i} is not what its tokens spell')
  return 'with the tokenizer' if subject.tokenizer else 'no tokenizer at hand'


def _spell(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
  """The bytes of drawn tokens; the one that ends a text is no text."""
  return tokenizer.decode_bytes(ids[ids != tokenizer.end_of_text])


def _greedy_request(subject: Subject, name: str, n_new: int) -> dict[str, Any]:
  """For the likeliest tokens, under no rules."""
  how = sampling_inputs(Request(n_new, temperature=0), subject.n_rows)
  return request(subject, name) | how


def greedy_by_steps(subject: Subject) -> str:
  """`generate_ids` writes what `prefill` and `decode_step` find likeliest."""
  n_new = min(4, subject.n_new)
  inputs = _greedy_request(subject, 'generate_ids', n_new)
  wrote = rows(subject.endpoint.predict('generate_ids', inputs))
  state = predict(subject, 'prefill')
  log_prob = np.zeros(subject.n_rows)
  tokens = []
  for i in range(n_new):
    tokens.append(np.argmax(state['logits'], -1))
    log_prob += np.max(log_softmax(state['logits']), -1)
    step = step_inputs(state, tokens[-1], subject.prompt_len + i)
    state = subject.endpoint.predict('decode_step', step)
  for i, row in enumerate(wrote):
    if row['num_tokens'] == n_new:  # A row that stopped is shorter.
      expected = {'tokens': np.stack(tokens, -1)[i], 'log_prob': log_prob[i]}
      same(f'generate_ids: row {i} by steps', row, expected)
  return f'{n_new} tokens'


def log_softmax(x: np.ndarray) -> np.ndarray:  # [..., V] -> [..., V]
  x = x - np.max(x, -1, keepdims=True)
  return x - np.log(np.sum(np.exp(x), -1, keepdims=True))


def scores(subject: Subject) -> str:
  """Perplexity is exp(-log_prob / num_tokens), of each text."""
  for i, row in enumerate(rows(predict(subject, 'score'))):
    if row['num_tokens'] > 0:
      expected = math.exp(-row['log_prob'] / row['num_tokens'])
      same(f'score: row {i}', row, {'perplexity': expected})
  return f'{subject.n_rows} texts'


def next_tokens(subject: Subject) -> str:
  """The likeliest comes first, and is what `generate` takes."""
  inputs = _greedy_request(subject, 'generate', 1)
  wrote = rows(subject.endpoint.predict('generate', inputs))
  for i, row in enumerate(rows(predict(subject, 'next_token'))):
    first = {'tokens': row['tokens'][0]}
    same(f'next_token: row {i}', first, {'tokens': wrote[i]['tokens'][0]})
    p = row['probabilities']
    if not (np.all(np.diff(p) <= 0) and 0 < np.sum(p) <= 1 + TOLERANCE):
      raise CheckError(f'next_token: row {i} has probabilities {p!r:.80}')
  return f'{subject.n_rows} prompts'


def defaults(subject: Subject) -> str:
  """`serving_default` is `generate` with the values of a bare request."""
  inputs = request(subject, 'generate')
  usual = sampling_inputs(Request(), subject.n_rows)
  usual['seed'][:] = Request().seed
  usual['max_new_tokens'][:] = min(subject.n_new, Request().max_new_tokens)
  begun = rows(subject.endpoint.predict('generate', inputs | usual))
  for i, row in enumerate(rows(predict(subject, 'serving_default'))):
    if not row['text_bytes'].startswith(begun[i]['text_bytes']):
      raise CheckError(f'serving_default: row {i} begins unlike generate')
  return f'{subject.n_new} tokens'


def streaming(subject: Subject) -> str:
  """A client that draws by itself draws what `generate` would have drawn."""
  if subject.tokenizer is None or subject.context_length is None:
    raise NotApplicableError('needs --export_dir or --workdir')
  how = Request(
    subject.n_new,
    temperature=1.0,
    top_p=0.95,
    seed=3,
    repetition_penalty=1.2,
    min_new_tokens=1,
  )
  prompts = [prompt.decode() for prompt in subject.prompts]
  for i, whole in enumerate(generate(subject.endpoint, prompts, how)):
    own = how._replace(seed=how.seed + i)
    pieces = stream(
      subject.endpoint,
      prompts[i],
      own,
      subject.tokenizer,
      subject.context_length,
    )
    if not ''.join(pieces).startswith(whole.text):
      raise CheckError(f'row {i} is streamed otherwise than generated')
  return f'{subject.n_rows} prompts'


def latency(subject: Subject, name: str, n_calls: int = 5) -> float:
  """Median seconds of a request of one row, after a first one."""
  inputs = request(subject, name)
  one = {key: _take(value, [0]) for key, value in inputs.items()}
  subject.endpoint.predict(name, one)
  seconds = []
  for _ in range(n_calls):
    started = time.monotonic()
    subject.endpoint.predict(name, one)
    seconds.append(time.monotonic() - started)
  return float(np.median(seconds))


def size(export_dir: Path) -> int:
  """Bytes of all files."""
  return sum(f.stat().st_size for f in export_dir.rglob('*') if f.is_file())


CHECKS = {
  'signatures': all_signatures,
  'batch dimension': batch_dimension,
  'no jit function': no_jit,
  'every signature answers': every_signature_answers,
  'warm-up requests': warmup_requests,
  'batch invariance': batch_invariance,
  'padding of ids': id_padding,
  'hard prompts': hard_prompts,
  'bad values': bad_values,
  'text of tokens': text_of_tokens,
  'greedy by steps': greedy_by_steps,
  'scores': scores,
  'next tokens': next_tokens,
  'defaults': defaults,
  'streaming': streaming,
}
