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
from collections.abc import Callable
from pathlib import Path

from minigpt.commands.flags import serve_check as flags
from minigpt.conformance import load_test, report, subject
from minigpt.conformance.isolated_process import IsolatedProcess
from minigpt.conformance.serving_session import read_saved_model
from minigpt.errors import UsageError
from minigpt.generation.generator import Request
from minigpt.serving import client
from minigpt.serving.endpoint import Endpoint


def main() -> int:
  export_dir = Path(flags.EXPORT_DIR.value) if flags.EXPORT_DIR.value else None
  workdir = Path(flags.WORKDIR.value) if flags.WORKDIR.value else None
  if export_dir:
    read_saved_model(export_dir)  # Refuses what is none before work begins.
  open_endpoint = _endpoint(export_dir)
  if flags.LOAD_TEST.value:
    return _load_test(open_endpoint())
  found = report.run_checks(
    open_endpoint,
    export_dir,
    workdir,
    lambda check: flags.JSON.value or print(report.line(check), flush=True),
  )
  print(report.to_json(found) if flags.JSON.value else report.summary(found))
  return 0 if found.passed else 1


def _endpoint(export_dir: Path | None) -> Callable[[], Endpoint]:
  if flags.TARGET.value is None:
    if export_dir is None or flags.LOAD_TEST.value:
      raise UsageError('give --export_dir to check files, --target a server')
    return lambda: IsolatedProcess(export_dir, flags.TIMEOUT.value)
  endpoint = client.connect(
    flags.TARGET.value,
    flags.MODEL_NAME.value or '',
    flags.PROTOCOL.value,
    flags.TIMEOUT.value,
  )
  endpoint.signatures()  # Fails with one line where there is no such model.
  return lambda: endpoint


def _load_test(endpoint: Endpoint) -> int:
  if flags.CONCURRENCY.value < 1 or flags.REQUESTS.value < 1:
    raise UsageError('--concurrency and --requests must be 1 or more')
  how = Request(flags.MAX_NEW_TOKENS.value, temperature=1.0).check()
  with contextlib.closing(endpoint):
    prompts = subject.prepare(endpoint).prompts

    def ask(i):
      prompt = prompts[i % len(prompts)].decode()
      client.generate(endpoint, [prompt], how._replace(seed=i))

    load = load_test.load_test(
      ask, flags.REQUESTS.value, flags.CONCURRENCY.value
    )
  print((load_test.to_json if flags.JSON.value else load_test.summary)(load))
  return 1 if load.errors else 0
