"""What the tables of the documents say of what was measured."""

import helpers
import pytest


@pytest.fixture
def measure(monkeypatch):
  monkeypatch.syspath_prepend(str(helpers.ROOT / 'benchmarks'))
  import measure

  return measure


def results(others):
  return {
    'commit': 'abc1234',
    'date': '2026-11-27',
    'group': 'bench',
    'machine': {'processor': 'Fast CPU', 'cores': 2},
    'versions': {'tensorflow': '2.21.0'},
    'taken_by_others': others,
    'runs': {
      'a': {'figures': [{'tokens_per_s': rate} for rate in (30.0, 10.0, 20.0)]},
      'b': {'figures': [{'tokens_per_s': 1234.5}]},
    },
  }


def test_a_figure_is_the_median_of_its_runs_with_their_span(measure):
  assert measure.tables.rate(results(0.0), 'a') == '20 (10 to 30)'
  assert measure.tables.rate(results(0.0), 'b') == '1,234'


def test_a_table_names_its_state_and_admits_a_busy_machine(measure):
  quiet = measure.tables.caption(results(0.01))
  assert '`abc1234`, 2026-11-27, 2 cores of Fast CPU, TensorFlow' in quiet
  busy = measure.tables.caption(results(0.62))
  assert busy == f'{quiet} **Other processes took 62% of the machine.**'


def test_what_others_took_is_what_this_process_did_not(measure, monkeypatch):
  monkeypatch.setattr(measure.os, 'cpu_count', lambda: 2)
  before = measure.Usage(clock=100.0, busy=50.0, own=7.0)
  after = measure.Usage(clock=110.0, busy=58.0, own=10.0)
  assert after.share_of_others(before) == 0.25  # 5 of 20 seconds
  assert measure.usage().busy > 0


def test_every_measured_workload_has_its_row(measure):
  assert list(measure.GROUPS['bench'].commands) == list(measure.tables.WORK)
