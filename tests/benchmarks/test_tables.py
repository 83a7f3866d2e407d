"""The tables in the documents, filled from measurements."""

import re

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


def test_every_table_stands_on_a_page_and_every_group_in_a_table(measure):
  tables = measure.tables
  pages = [(helpers.ROOT / page).read_text('utf-8') for page in tables.PAGES]
  named = re.findall(r'<!-- table: (\w+) -->', '\n'.join(pages))
  assert sorted(named) == sorted(tables.TABLES)
  source = (helpers.ROOT / 'benchmarks/tables.py').read_text('utf-8')
  loaded = re.findall(r"load\('(\w+)'\)", source)
  assert set(loaded) == set(measure.GROUPS)


def test_a_table_without_results_says_how_to_get_them(measure, monkeypatch):
  monkeypatch.setattr(measure.tables, 'RESULTS', helpers.ROOT / 'nowhere')
  text = 'a\n<!-- table: streams -->\n<!-- end -->\nb\n'
  filled = measure.tables.fill(text).splitlines()
  assert (
    filled[2] == 'Not measured yet: `python benchmarks/measure.py streams`.'
  )
  assert [filled[0], filled[-1]] == ['a', 'b']


def rows(measure, monkeypatch, table, group, runs):
  """Returns the lines of a table of given figures."""
  found = {**results(0.0), 'group': group, 'runs': runs}
  monkeypatch.setattr(measure.tables, 'load', {group: found}.get)
  text = '\n'.join(measure.tables.TABLES[table]())
  return [line for line in text.splitlines() if line[:1] == '|'][2:]


def test_runs_of_several_seeds_are_one_row(measure, monkeypatch):
  def run(loss):
    figures = {'val_loss': loss, 'val_accuracy': 0.5, 'seconds': 10 * loss}
    return {'figures': [figures]}

  runs = {name: run(2.0) for name in ('mini', 'char')}
  runs |= {f'fast {seed}': run(1.0 + seed) for seed in range(4)}
  fast = rows(measure, monkeypatch, 'runs', 'runs', runs)[-1]
  assert fast.split(' | ')[1:] == [
    '2.500 (1.000 to 4.000)',
    '0.500 (0.500 to 0.500)',
    '25 (10 to 40) |',
  ]


def test_what_the_door_did_is_told_in_its_units(measure, monkeypatch):
  figures = {
    **{'tokens_per_s': [900.0], 'bare': [1200.0], 'share': [0.75]},
    **{'streams': 2000, 'failed': 1, 'failed_then': 2},
    **{'statuses': {'no JSON': 400}, 'megabytes': [1000.4, 1010.0, 1020.0]},
    'more_requests': 5000,
  }
  runs = {'door': {'figures': [figures]}}
  lines = rows(measure, monkeypatch, 'door', 'door', runs)
  assert '| failed of 2,000 streams | 1 |' in lines
  assert '| status | no JSON: 400 |' in lines
  assert lines[-1].endswith('5,000 more, MB | 1,000, 1,020 |')


def test_a_group_without_its_data_ends_before_it_begins(measure, monkeypatch):
  monkeypatch.delenv('TIKTOKEN_CACHE_DIR', raising=False)
  measure.require_data(['bench', 'streams'])
  with pytest.raises(SystemExit, match=r'grammars needs .*TIKTOKEN_CACHE_DIR'):
    measure.require_data(['bench', 'grammars'])


def test_an_example_prints_a_line_of_json_for_each_model(measure):
  import example_run

  printed = 'step 1\n{"model": "gpt", "valid": 0.5}\nSELECT 1;\n'
  assert example_run.rows(printed) == {'gpt': {'valid': 0.5}}


def test_made_text_is_the_same_each_time_and_ends_with_a_line(
  measure, monkeypatch, tmp_path
):
  import made_text

  monkeypatch.setattr(made_text, '_BLOCK', 500)
  monkeypatch.setattr(made_text, '_BLOCKS', 2)
  monkeypatch.setattr(made_text, '_WORDS', 1000)
  for name in 'ab':
    made_text.write(tmp_path / name, 20_000)
  text = (tmp_path / 'a').read_bytes()
  assert 20_000 <= len(text) < 20_200
  assert text == (tmp_path / 'b').read_bytes()
  lines = text.decode().splitlines()
  assert lines[0].count(' ') == 11 and text.endswith(b'.\n')
  # Three blocks of about 3,000 bytes, the third the first again.
  assert lines.count(lines[0]) > 2
