"""Checks an exported model, or the server that serves it.

  python serve_check.py --export_dir=models/shakespeare/1 --workdir=runs/s
  python serve_check.py --target=localhost:8500 --model_name=shakespeare
  python serve_check.py --target=localhost:8500 --model_name=shakespeare \
    --load_test --concurrency=8 --requests=200

Exits with 0 only if nothing failed.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

from absl import flags

from minigpt.runtime import startup  # First: it silences TensorFlow's import.

# isort: split
from minigpt.conformance import load_test, signature_checks, subject
from minigpt.conformance.serving_session import StockProcess, read_saved_model
from minigpt.errors import UsageError
from minigpt.generation.generator import Request
from minigpt.serving import client
from minigpt.serving.endpoint import Endpoint

_EXPORT_DIR = flags.DEFINE_string('export_dir', None, 'a version to check')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'the run it was exported from, to compare with'
)
_TARGET = flags.DEFINE_string('target', None, 'a server to check, as host:port')
_MODEL_NAME = flags.DEFINE_string('model_name', None, 'its name for the model')
_PROTOCOL = flags.DEFINE_string('protocol', 'grpc', "'grpc' or 'rest'")
_TIMEOUT = flags.DEFINE_float('timeout', 300.0, 'seconds to wait for an answer')
_LOAD_TEST = flags.DEFINE_bool(
  'load_test', False, 'measure the server under load instead'
)
_CONCURRENCY = flags.DEFINE_integer('concurrency', 4, 'requests at a time')
_REQUESTS = flags.DEFINE_integer('requests', 100, 'requests in all')
_MAX_NEW_TOKENS = flags.DEFINE_integer(
  'max_new_tokens', 32, 'tokens that each request of a load test asks for'
)
_JSON = flags.DEFINE_bool('json', False, 'print one JSON object, nothing else')


def main() -> int:
  export_dir = Path(_EXPORT_DIR.value) if _EXPORT_DIR.value else None
  workdir = Path(_WORKDIR.value) if _WORKDIR.value else None
  if export_dir:
    read_saved_model(export_dir)  # Refuses what is none before work begins.
  open_endpoint = _endpoint(export_dir)
  if _LOAD_TEST.value:
    return _load_test(open_endpoint())
  report = subject.examine(
    open_endpoint,
    export_dir,
    workdir,
    lambda check: _JSON.value or print(subject.line(check), flush=True),
  )
  print(subject.to_json(report) if _JSON.value else subject.summary(report))
  return 0 if report.passed else 1


def _endpoint(export_dir: Path | None) -> Callable[[], Endpoint]:
  if _TARGET.value is None:
    if export_dir is None or _LOAD_TEST.value:
      raise UsageError('give --export_dir to check files, --target a server')
    return lambda: StockProcess(export_dir, _TIMEOUT.value)
  endpoint = client.connect(
    _TARGET.value, _MODEL_NAME.value or '', _PROTOCOL.value, _TIMEOUT.value
  )
  endpoint.signatures()  # Fails with one line where there is no such model.
  return lambda: endpoint


def _load_test(endpoint: Endpoint) -> int:
  if _CONCURRENCY.value < 1 or _REQUESTS.value < 1:
    raise UsageError('--concurrency and --requests must be 1 or more')
  how = Request(_MAX_NEW_TOKENS.value, temperature=1.0).check()
  with contextlib.closing(endpoint):
    prompts = signature_checks.prepare(endpoint).prompts

    def ask(i):
      prompt = prompts[i % len(prompts)].decode()
      client.generate(endpoint, [prompt], how._replace(seed=i))

    load = load_test.load_test(ask, _REQUESTS.value, _CONCURRENCY.value)
  print((load_test.to_json if _JSON.value else load_test.summary)(load))
  return 1 if load.errors else 0


if __name__ == '__main__':
  startup.run(main)
