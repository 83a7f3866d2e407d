"""A sound export under test, and copies of it to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def checked(session, export_dir, run_dir):
  """The model under test, with all information about it."""
  from minigpt.conformance import report, subject

  return subject.prepare(session, report.read_files(export_dir, run_dir))


@pytest.fixture
def copy(export_dir, tmp_path):
  """A copy of the export, for a test to damage."""
  return Path(shutil.copytree(export_dir, tmp_path / '1'))
