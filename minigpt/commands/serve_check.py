r"""Checks an exported model, or the server that serves it.

  python -m minigpt serve-check --export_dir=models/shakespeare/1 \
    --workdir=runs/s
  python -m minigpt serve-check --target=localhost:8500 \
    --model_name=shakespeare
  python -m minigpt serve-check --target=localhost:8500 \
    --model_name=shakespeare --load_test --concurrency=8 --requests=200

Exits with 0 only if nothing failed.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minigpt.commands.flags import serve_check as flags
from minigpt.config import SERVED_DTYPES
from minigpt.conformance import load_test, report, subject
from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.conformance.serving_session import read_saved_model
from minigpt.conformance.subject import Check
from minigpt.errors import UsageError, unknown
from minigpt.generation.request import Request
from minigpt.serving import client
from minigpt.serving.endpoint import Endpoint


def main() -> int:
  """Runs all checks, or a load test; returns 1 if something failed."""
  export_dir = Path(flags.EXPORT_DIR.value) if flags.EXPORT_DIR.value else None
  workdir = Path(flags.WORKDIR.value) if flags.WORKDIR.value else None
  if export_dir:
    read_saved_model(export_dir)  # Refuses other files before the work begins.
  if flags.LOAD_TEST.value:
    _check_load()
  _check_compute_dtype()
  open_endpoint = _endpoint(export_dir)
  if flags.LOAD_TEST.value:
    return _load_test(open_endpoint())
  found = report.run_checks(
    open_endpoint, export_dir, workdir, _show, flags.COMPUTE_DTYPE.value
  )
  print(report.to_json(found) if flags.JSON.value else report.summary(found))
  return 0 if found.passed else 1


def _check_load() -> None:
  """Raises UsageError if the flags of the load test make no sense."""
  if not 1 <= flags.CONCURRENCY.value <= load_test.MAX_CONCURRENCY:
    raise UsageError(
      f'--concurrency={flags.CONCURRENCY.value}: it must lie in '
      f'[1, {load_test.MAX_CONCURRENCY}]; each request has a thread'
    )
  if flags.REQUESTS.value < 1:
    raise UsageError(f'--requests={flags.REQUESTS.value}: it must be 1 or more')
  Request(flags.MAX_NEW_TOKENS.value).check()


def _check_compute_dtype() -> None:
  """Raises UsageError for a dtype that is unknown, or known from the card."""
  dtype = flags.COMPUTE_DTYPE.value
  if dtype is None:
    return
  if dtype not in SERVED_DTYPES:
    raise unknown('compute_dtype', dtype, SERVED_DTYPES)
  if flags.EXPORT_DIR.value:
    raise UsageError(
      f'--compute_dtype={dtype}: the model card in --export_dir says it; leave '
      'the flag out'
    )


def _show(check: Check) -> None:
  """Prints a check as soon as it is done."""
  if not flags.JSON.value:
    print(report.line(check), flush=True)


def _endpoint(export_dir: Path | None) -> Callable[[], Endpoint]:
  """Returns a function that opens the server, or the export's process."""
  if flags.TARGET.value is None:
    if export_dir is None or flags.LOAD_TEST.value:
      raise UsageError('give --export_dir to check files, --target a server')
    return lambda: _isolated(export_dir)
  if flags.SERVER_PYTHON.value is not None:
    raise UsageError('--server_python is for --export_dir without --target')
  endpoint = client.connect(
    flags.TARGET.value,
    flags.MODEL_NAME.value or '',
    flags.PROTOCOL.value,
    flags.TIMEOUT.value,
  )
  endpoint.signatures()  # Raises an error if there is no such model.
  return lambda: endpoint


def _isolated(export_dir: Path) -> Endpoint:
  """Loads the export in a process of its own."""
  python = flags.SERVER_PYTHON.value or sys.executable
  endpoint = IsolatedProcess(export_dir, flags.TIMEOUT.value, python)
  if flags.SERVER_PYTHON.value and not flags.JSON.value:
    print(f'under TensorFlow {endpoint.tensorflow}', flush=True)
  return endpoint


def _load_test(endpoint: Endpoint) -> int:
  """Measures a server under load; returns 1 if a request failed."""
  request = Request(flags.MAX_NEW_TOKENS.value, temperature=1.0)
  with contextlib.closing(endpoint):
    prompts = subject.prepare(endpoint).prompts

    def send(i: int) -> None:
      prompt = prompts[i % len(prompts)].decode()
      client.generate(endpoint, [prompt], replace(request, seed=i))

    result = load_test.load_test(
      send, flags.REQUESTS.value, flags.CONCURRENCY.value
    )
  print((load_test.to_json if flags.JSON.value else load_test.summary)(result))
  return 1 if result.errors else 0
