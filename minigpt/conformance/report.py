"""The report on an export: all checks, latencies, and a verdict."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigpt import tokenizers
from minigpt.checkpoints.loading import LoadedModel, load_trained
from minigpt.conformance import (
  generation_checks,
  grammar_checks,
  input_checks,
  parity_checks,
  signature_checks,
)
from minigpt.conformance.subject import (
  Check,
  CheckFunction,
  ModelFiles,
  ModelUnderTest,
  example_inputs,
  known_signatures,
  prepare,
  run_check,
  take_rows,
  tolerance,
)
from minigpt.errors import InputError
from minigpt.runtime.atomic_io import folder_size
from minigpt.serving import export_files, server_config
from minigpt.serving.endpoint import (
  Endpoint,
  EndpointError,
  malformed,
  pick,
)
from minigpt.tokenizers import Tokenizer

# In the order in which they run; later checks rely on earlier ones.
CHECKS: dict[str, CheckFunction] = {
  **signature_checks.CHECKS,
  **input_checks.CHECKS,
  **generation_checks.CHECKS,
}
_N_TIMED = 5  # Timed requests of each signature; the median counts.


@dataclasses.dataclass
class Report:
  """The results of all checks."""

  checks: list[Check] = dataclasses.field(default_factory=list)
  latency: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds
  size: int | None = None  # bytes of the export

  @property
  def passed(self) -> bool:
    """Returns whether there are checks and none failed."""
    return bool(self.checks) and all(c.status != 'fail' for c in self.checks)


def run_checks(
  open_endpoint: Callable[[], Endpoint],
  export_dir: str | Path | None = None,
  workdir: str | Path | None = None,
  on_check: Callable[[Check], None] = lambda check: None,
  compute_dtype: str | None = None,
) -> Report:
  """Runs every check that applies, then times every signature.

  Args:
    open_endpoint: opens the endpoint; its EndpointError is a failed check.
    export_dir: the export, if its files are at hand.
    workdir: the run that the export was made from, if it is at hand.
    on_check: called with each check as soon as it is done.
    compute_dtype: dtype of the export's matmuls, if there is no `export_dir`.

  Raises:
    InputError: `export_dir` or `workdir` cannot be read.
  """
  report = Report()

  def note(check: Check) -> None:
    report.checks.append(check)
    on_check(check)

  files = read_files(export_dir, workdir, compute_dtype)
  report.size = folder_size(files.export_dir) if files.export_dir else None
  try:
    with contextlib.closing(open_endpoint()) as endpoint:
      files = _with_tolerance(files, endpoint)
      model = prepare(endpoint, files)
      generated = f'{model.prompts[0].decode(errors="replace")!r:.40}'
      note(Check('loads and generates', 'pass', generated))
      for name, check in _checks(files).items():
        note(run_check(name, check, model))
      report.latency = latencies(model)
  except EndpointError as error:
    note(Check('loads and generates', 'fail', _reason(error, files)))
  return report


def _checks(files: ModelFiles) -> dict[str, CheckFunction]:
  """Returns the checks that apply, given the files at hand."""
  checks = dict(CHECKS)
  if files.grammars:
    checks |= grammar_checks.CHECKS
  if files.reference:
    checks |= parity_checks.CHECKS
  if files.reference and files.grammars:
    checks |= grammar_checks.LIVE_CHECKS
  return checks


def _reason(error, files):
  """Returns why an export does not run, and a remedy where it needs more."""
  dtype = files.compute_dtype
  if dtype not in server_config.NEEDS:
    return str(error)
  return (
    f'{str(error).split(". ")[0]}; it computes in {dtype}, which needs '
    f'{server_config.NEEDS[dtype]}: else export with --compute_dtype=float32'
  )


def _with_tolerance(files: ModelFiles, endpoint: Endpoint) -> ModelFiles:
  """Returns the files with the tolerance for rounding in bfloat16."""
  if files.compute_dtype == 'float32':
    return files
  caches = pick(endpoint.signatures(), 'decode_step').inputs
  with malformed('no layers in decode_step'):
    n_layers = int(caches['keys'].shape[1])
    return files._replace(tolerance=tolerance(files.compute_dtype, n_layers))


def read_files(
  export_dir: str | Path | None,
  workdir: str | Path | None,
  compute_dtype: str | None = None,
) -> ModelFiles:
  """Reads information about the model from an export and a run.

  Raises:
    InputError: a file is damaged, or the run does not exist.
  """
  path = Path(export_dir) if export_dir else None
  known = ModelFiles(path)
  card: dict[str, Any] = {}
  if compute_dtype:
    # An export stores its weights in the dtype of its matmuls.
    card = dict.fromkeys(('compute_dtype', 'weights'), compute_dtype)
  if path:
    card = export_files.read_card(path)
    known = known._replace(
      stop=export_files.stops(card, path),
      grammars=card.get('grammars', {}),
    )
  known = _with_limits(known, card)
  if workdir is None:
    return known._replace(
      tokenizer=_read_tokenizer(path) if path else None,
      context_length=card.get('model', {}).get('context_length'),
    )
  trained = load_trained(workdir)
  model = LoadedModel(
    trained.run.model, trained.model.params, trained.tokenizer, trained
  )
  return known._replace(
    tokenizer=model.tokenizer,
    context_length=model.config.context_length,
    reference=parity_checks.as_exported(model, card.get('weights', 'float32')),
  )


def _with_limits(known: ModelFiles, card: dict[str, Any]) -> ModelFiles:
  """Adds the limits and the dtype of a model card."""
  if limit := card.get('max_new_tokens_limit'):
    known = known._replace(max_new_tokens=limit)
  if sizes := card.get('batch_sizes'):
    known = known._replace(largest_batch=max(sizes))
  if 'compute_dtype' in card:
    known = known._replace(compute_dtype=card['compute_dtype'])
  return known


def _read_tokenizer(export_dir: Path) -> Tokenizer | None:
  try:
    return tokenizers.load(export_dir / 'assets' / 'tokenizer.json')
  except InputError:
    return None


def latencies(model: ModelUnderTest) -> dict[str, float]:
  """Returns the median latency of each signature that answers, in seconds."""
  found = {}
  for name in known_signatures(model):
    with contextlib.suppress(EndpointError, LookupError, ValueError):
      found[name] = _latency(model, name)
  return found


def _latency(model: ModelUnderTest, name: str) -> float:
  """Returns the median latency of a request of one row, in seconds."""
  inputs = take_rows(example_inputs(model, name), [0])
  # The first request of a shape is slower: it prepares the graph.
  model.endpoint.predict(name, inputs)
  seconds = []
  for _ in range(_N_TIMED):
    started = time.monotonic()
    model.endpoint.predict(name, inputs)
    seconds.append(time.monotonic() - started)
  return float(np.median(seconds))


def line(check: Check) -> str:
  """Formats a check as a line of the report."""
  return f'{check.status}  {check.name:<24} {check.detail}'


def summary(report: Report) -> str:
  """Formats latencies, size and verdict; checks are shown as they finish."""
  lines = [
    f'{name:<16} {seconds * 1e3:8.1f} ms per request of one row'
    for name, seconds in report.latency.items()
  ]
  if report.size is not None:
    lines.append(f'{report.size / 1e6:.1f} MB in all files')
  failed = [check.name for check in report.checks if check.status == 'fail']
  if report.passed:
    verdict = f'passed: {len(report.checks)} checks'
  else:
    verdict = f'FAILED: {", ".join(failed)}'
  return '\n'.join([*lines, verdict])


def to_json(report: Report) -> str:
  """Returns the report as a JSON object."""
  return json.dumps(
    {
      'passed': report.passed,
      'checks': [check._asdict() for check in report.checks],
      'latency_seconds': report.latency,
      'size_bytes': report.size,
    },
    indent=2,
  )
