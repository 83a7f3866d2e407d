"""A sound export as the checks see it, and copies of it to be spoiled."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def checked(session, export_dir, run_dir):
  """The model under test, with all that can be known of it."""
  from minigpt.conformance import report, subject

  return subject.prepare(session, report.read_files(export_dir, run_dir))


@pytest.fixture
def copy(export_dir, tmp_path):
  """The export, for a test to spoil."""
  return Path(shutil.copytree(export_dir, tmp_path / '1'))
