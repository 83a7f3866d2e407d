"""The report: its checks, its inputs and its text."""

import json
import shutil

import pytest

from minigpt.conformance import report, subject
from minigpt.conformance.report import Report
from minigpt.conformance.serving_session import ServingSession
from minigpt.conformance.subject import Check, ModelFiles
from minigpt.errors import InputError


def test_the_files_of_the_export_tell_of_the_model(export_dir):
  files = report.read_files(str(export_dir), None)
  assert files.tokenizer.vocab_size == 17
  assert files.context_length == 12
  assert files.reference is None


def test_the_run_tells_more(run_dir):
  files = report.read_files(None, str(run_dir))
  assert files.export_dir is None
  assert files.context_length == 12
  assert files.reference.tokenizer is files.tokenizer


def test_prompts_leave_room_for_tokens_in_a_small_context(session):
  small = subject.prepare(session, ModelFiles(context_length=8))
  assert small.ids.shape == (3, 4)
  smallest = subject.prepare(session, ModelFiles(context_length=1))
  assert smallest.ids.shape == (3, 1)


def test_an_export_of_another_program_has_no_card(copy):
  (copy / 'assets.extra' / 'model.json').unlink()
  (copy / 'assets' / 'tokenizer.json').unlink()
  files = report.read_files(copy, None)
  assert files.tokenizer is files.context_length is None


def test_a_damaged_card_is_named(copy):
  (copy / 'assets.extra' / 'model.json').write_text('{')
  with pytest.raises(InputError, match=r'model\.json: it is not JSON'):
    report.read_files(copy, None)


def test_a_server_without_files_is_checked_as_it_is_said_to_compute(
  session, run_dir, monkeypatch
):
  monkeypatch.setattr(report, '_checks', lambda files: {})
  monkeypatch.setattr(report, 'latencies', lambda model: seen.append(model))
  seen = []
  monkeypatch.setattr(session, 'close', lambda: None, raising=False)
  for dtype, workdir in (
    (None, None),
    ('bfloat16', None),
    ('bfloat16', run_dir),
  ):
    found = report.run_checks(lambda: session, None, workdir, print, dtype)
    assert found.passed
  strict, loose, live = (model.files for model in seen)
  assert strict.tolerance == subject.FLOAT32_TOLERANCE
  assert loose.tolerance == live.tolerance == subject.tolerance('bfloat16', 2)
  assert live.reference.weights.wte.values.dtype == 'bfloat16'


def test_latency_is_found_for_every_signature(checked):
  latencies = report.latencies(checked)
  assert set(latencies) == set(checked.endpoint.signatures())
  assert all(seconds > 0 for seconds in latencies.values())


def test_an_export_without_weights_does_not_load(copy):
  shutil.rmtree(copy / 'variables')
  seen = []
  found = report.run_checks(
    lambda: ServingSession(copy), copy, None, seen.append
  )
  assert not found.passed
  assert [c.status for c in found.checks] == ['fail']
  assert seen == found.checks


def test_a_report_without_checks_has_not_passed():
  assert not Report().passed
  assert Report([Check('a', 'skip', '')]).passed
  assert not Report([Check('a', 'pass', ''), Check('b', 'fail', '')]).passed


def test_the_verdict_names_what_failed():
  checks = [Check('a', 'pass', 'fine'), Check('b', 'fail', 'wrong')]
  found = Report(checks, {'score': 0.25}, 2_500_000)
  assert report.summary(found).splitlines() == [
    'score               250.0 ms per request of one row',
    '2.5 MB in all files',
    'FAILED: b',
  ]
  assert report.line(checks[1]) == 'fail  b                        wrong'
  fields = json.loads(report.to_json(found))
  assert fields['passed'] is False
  assert fields['checks'][1] == {
    'name': 'b',
    'status': 'fail',
    'detail': 'wrong',
  }
  assert fields['latency_seconds'] == {'score': 0.25}
  assert fields['size_bytes'] == 2_500_000


def test_a_server_that_cannot_compute_in_bfloat16_is_told_so(copy):
  """The operation is not registered, as on unsupported processors."""
  path = copy / 'assets.extra' / 'model.json'
  card = json.loads(path.read_text()) | {'compute_dtype': 'bfloat16'}
  path.write_text(json.dumps(card))
  file = copy / 'saved_model.pb'
  file.write_bytes(
    file.read_bytes().replace(b'BatchMatMulV2', b'BatchMatMulV9')
  )
  found = report.run_checks(lambda: ServingSession(copy), copy)
  (check,) = found.checks
  assert check.status == 'fail'
  assert "not registered 'BatchMatMulV9'" in check.detail
  assert check.detail.endswith('else export with --compute_dtype=float32')
