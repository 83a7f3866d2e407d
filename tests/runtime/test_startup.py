"""The effects of `startup.configure`, and that its import has none."""

import json
import logging
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope='module')
def configured():
  """Returns the settings of a command's process, with other XLA_FLAGS."""
  given = '--xla_cpu_prefer_vector_width=256'
  code = f"""
import gc, json, logging, os
before = dict(os.environ)
from minigpt.runtime import startup
assert os.environ == before
startup.configure()
print(json.dumps({{
  'n_frozen': gc.get_freeze_count(),
  'is_collected': gc.isenabled(),
  'level': logging.getLogger('tensorflow').level,
  'own': os.environ['XLA_FLAGS'],
  'none': startup.xla_flags('', '2.21.0'),
  'some': startup.xla_flags('{given}', '2.21.0'),
  'file': startup.xla_flags('flags.txt', '2.21.0'),
  'older': startup.xla_flags('', '2.20.0'),
  'candidate': startup.xla_flags('', '2.21.0-rc1'),
}}))"""
  command = [sys.executable, '-c', code]
  env = os.environ | {'XLA_FLAGS': given}
  return json.loads(subprocess.check_output(command, text=True, env=env))


def test_commands_steer_xla_where_the_user_does_not(configured):
  for name, width in (('own', 256), ('some', 256), ('none', 512)):
    shown = configured[name]
    assert f'xla_cpu_prefer_vector_width={width}' in shown
    assert 'ynn_fusion_type=-reduce' in shown
    assert shown.count('vector_width') == 1
  assert configured['file'] == 'flags.txt'


def test_xla_gets_no_flag_that_it_does_not_know(configured):
  """An unknown flag would abort the process."""
  assert configured['older'].count('--') == 1
  assert configured['candidate'].count('--') == 2


def test_what_was_imported_is_not_searched_for_garbage(configured):
  """Otherwise it costs a second at the end, and most of one at the start."""
  assert configured['n_frozen'] > 100_000
  assert configured['is_collected']


def test_tensorflow_does_not_tell_users_what_is_deprecated(configured):
  assert configured['level'] == logging.ERROR
