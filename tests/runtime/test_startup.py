"""What importing `program` makes of the process, before a program runs."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope='module')
def imported():
  """The process of a program, and what it would make of other XLA_FLAGS."""
  given = '--xla_cpu_prefer_vector_width=256'
  code = f"""
import gc, json, os
from minigpt import program
print(json.dumps({{
  'n_frozen': gc.get_freeze_count(),
  'is_collected': gc.isenabled(),
  'own': os.environ['XLA_FLAGS'],
  'none': program.xla_flags('', '2.21.0'),
  'some': program.xla_flags('{given}', '2.21.0'),
  'file': program.xla_flags('flags.txt', '2.21.0'),
  'older': program.xla_flags('', '2.20.0'),
  'candidate': program.xla_flags('', '2.21.0-rc1'),
}}))"""
  command = [sys.executable, '-c', code]
  env = os.environ | {'XLA_FLAGS': given}
  return json.loads(subprocess.check_output(command, text=True, env=env))


def test_programs_steer_xla_where_the_user_does_not(imported):
  for name, width in (('own', 256), ('some', 256), ('none', 512)):
    shown = imported[name]
    assert f'xla_cpu_prefer_vector_width={width}' in shown
    assert 'ynn_fusion_type=-reduce' in shown
    assert shown.count('vector_width') == 1
  assert imported['file'] == 'flags.txt'


def test_xla_gets_no_flag_that_it_does_not_know(imported):
  """It would end the process."""
  assert imported['older'].count('--') == 1
  assert imported['candidate'].count('--') == 2


def test_what_was_imported_is_not_searched_for_garbage(imported):
  """Else a second goes by at the end, and most of one before."""
  assert imported['n_frozen'] > 100_000
  assert imported['is_collected']
