"""The gate before deployment: every check, every latency, one verdict."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt import tokenizers
from minigpt.checkpoints.loading import load_trained
from minigpt.conformance import generation_checks, signature_checks
from minigpt.conformance.signature_checks import Check, Subject
from minigpt.errors import InputError
from minigpt.serving.endpoint import Endpoint, EndpointError
from minigpt.tokenizers import Tokenizer


@dataclasses.dataclass
class Report:
  """What the gate found out."""

  checks: list[Check] = dataclasses.field(default_factory=list)
  latency: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds
  size: int | None = None  # bytes of the export

  @property
  def passed(self) -> bool:
    """Whether something was checked and nothing failed."""
    return bool(self.checks) and all(c.status != 'fail' for c in self.checks)


def examine(
  open_endpoint: Callable[[], Endpoint],
  export_dir: Path | None = None,
  workdir: Path | None = None,
  on_check: Callable[[Check], None] = lambda check: None,
) -> Report:
  """Runs every check that applies.

  Args:
    export_dir: where the files of the export are at hand.
    workdir: of the run that it was made from.
    on_check: is told of each check as soon as it is done.

  Raises:
    InputError: `export_dir` or `workdir` is not what it should be.
  """
  report = Report()

  def note(check):
    report.checks.append(check)
    on_check(check)

  known = _known(export_dir, workdir)
  report.size = signature_checks.size(export_dir) if export_dir else None
  try:
    with contextlib.closing(open_endpoint()) as endpoint:
      subject = signature_checks.prepare(
        endpoint, export_dir=export_dir, **known
      )
      note(Check('loads and writes', 'pass', f'{subject.prompts[0]!r:.40}'))
      for check in signature_checks.run(_checks(subject), subject):
        note(check)
      report.latency = _latencies(subject)
  except EndpointError as error:
    note(Check('loads and writes', 'fail', str(error)))
  return report


def _checks(subject: Subject) -> dict[str, Callable[[Subject], str]]:
  live = generation_checks.CHECKS if subject.live else {}
  return signature_checks.CHECKS | live


def _known(export_dir: Path | None, workdir: Path | None) -> dict[str, Any]:
  """What the files say of the model."""
  card = _card(export_dir) if export_dir else {}
  if workdir is None:
    return {
      'tokenizer': _tokenizer(export_dir) if export_dir else None,
      'context_length': card.get('model', {}).get('context_length'),
    }
  trained = load_trained(workdir)
  return {
    'tokenizer': trained.tokenizer,
    'context_length': trained.run.model.context_length,
    'live': generation_checks.live(trained, card.get('weights', 'float32')),
  }


def _card(export_dir: Path) -> dict[str, Any]:
  """What the exporter wrote down; nothing where another program exported."""
  path = export_dir / 'assets.extra' / 'model.json'
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise InputError(f'{path} cannot be read ({error})') from None


def _tokenizer(export_dir: Path) -> Tokenizer | None:
  try:
    return tokenizers.load(export_dir / 'assets' / 'tokenizer.json')
  except InputError:
    return None


def _latencies(subject: Subject) -> dict[str, float]:
  """Of the signatures that answer."""
  found = {}
  for name in subject.endpoint.signatures():
    with contextlib.suppress(EndpointError, LookupError, ValueError):
      found[name] = signature_checks.latency(subject, name)
  return found


def line(check: Check) -> str:
  return f'{check.status}  {check.name:<24} {check.detail}'


def summary(report: Report) -> str:
  """All but the checks, which were shown as they were done."""
  lines = [
    f'{name:<16} {seconds * 1e3:8.1f} ms a request of one row'
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
  return json.dumps(
    {
      'passed': report.passed,
      'checks': [check._asdict() for check in report.checks],
      'latency_seconds': report.latency,
      'size_bytes': report.size,
    },
    indent=2,
  )
