"""Serves a model over HTTP, with the interface of OpenAI's API.

  python -m minigpt serve --export_dir=models/shakespeare

The model runs in the same process or, with --target, on a TensorFlow Serving
server. docs/reference/http.md has the routes. SIGTERM and Ctrl-C end the server
when all answers that have begun are complete.
"""

from pathlib import Path

from minigpt.commands.flags import serve as flags
from minigpt.conformance.serving_session import (
  ServingSession,
  read_saved_model,
)
from minigpt.errors import InputError, UsageError
from minigpt.generation.request import Request
from minigpt.serving import chunks, client, export_files, versions
from minigpt.serving.endpoint import Endpoint

_AT_LEAST_ONE = (
  flags.MAX_BATCH,
  flags.MAX_WAITING,
  flags.MAX_CONNECTIONS,
  flags.MAX_BODY_BYTES,
  flags.MAX_PROMPT_TOKENS,
  flags.MAX_TOKENS,
  flags.CHUNK,
  flags.GRACE_SECONDS,
)


def main() -> None:
  """Serves until a signal comes."""
  if flags.EXPORT_DIR.value is None:
    raise UsageError('give --export_dir, the model to serve')
  _check_flags()
  try:
    from minigpt.http_server import run
  except ImportError as error:
    raise InputError(f"{error}; pip install 'minigpt[serve]'") from None
  listening = run.listen(flags.HOST.value, flags.PORT.value)
  with listening:
    service = _service(Path(flags.EXPORT_DIR.value))
    host, port, *_ = listening.getsockname()
    name = service.model.name
    print(f'{name}: http://{host}:{port}/v1 (Ctrl-C stops it)', flush=True)
    serving = run.server(
      service, flags.MAX_CONNECTIONS.value, flags.GRACE_SECONDS.value
    )
    run.run(serving, listening)


def _check_flags() -> None:
  for flag in _AT_LEAST_ONE:
    if flag.value is not None and flag.value < 1:
      raise UsageError(f'--{flag.name}={flag.value}: it must be 1 or more')
  if not 0 <= flags.PORT.value < 65536:
    raise UsageError(f'--port={flags.PORT.value}: it must lie in [0, 65535]')
  Request(stop=tuple(flags.STOP.value)).check()


def _service(path: Path):
  """Loads the model, and returns the service that answers requests."""
  from minigpt.http_server.scheduler import Limits
  from minigpt.http_server.service import Bounds, Service

  limits = Limits(
    flags.MAX_BATCH.value, flags.MAX_WAITING.value, flags.CHUNK.value
  )
  bounds = Bounds(
    flags.MAX_BODY_BYTES.value,
    flags.MAX_PROMPT_TOKENS.value,
    flags.MAX_TOKENS.value,
  )
  return Service(_model(_newest(path)), limits, bounds)


def _model(export_dir: Path):
  """Loads the export, warms it up, and returns the model."""
  from minigpt.http_server import chat_template
  from minigpt.http_server.service import Model

  read_saved_model(export_dir)  # Rejects other files before work begins.
  files = export_files.read(export_dir)
  template = flags.CHAT_TEMPLATE.value
  render = chat_template.load(template) if template else None
  name = flags.MODEL_NAME.value or files.name
  endpoint = _endpoint(export_dir, name)
  if not chunks.has_chunks(endpoint):
    raise InputError(
      f'{export_dir} cannot be continued in chunks; export the run again'
    )
  least = {n: int(it['least_tokens']) for n, it in files.grammars.items()}
  chunks.warm_up(endpoint, flags.MAX_BATCH.value, files.compiled_sizes, least)
  return Model(
    name,
    endpoint,
    files.tokenizer,
    files.context_length,
    created=files.created,
    template=render,
    stop=(*files.stop, *flags.STOP.value),
    compiled_sizes=files.compiled_sizes,
    grammars=files.grammars,
  )


def _newest(path: Path) -> Path:
  """Returns `path` if it is a version, else the newest version in it."""
  if (path / 'saved_model.pb').exists():
    return path
  found = versions.versions(path)
  return path / str(found[-1]) if found else path


def _endpoint(export_dir: Path, name: str) -> Endpoint:
  """Returns the endpoint that computes: this process, or --target."""
  if flags.TARGET.value is None:
    return ServingSession(export_dir)
  endpoint = client.connect(
    flags.TARGET.value, name, flags.PROTOCOL.value, flags.TIMEOUT.value
  )
  endpoint.signatures()  # Raises an error if there is no such model.
  return endpoint
