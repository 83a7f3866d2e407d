"""`minigpt launch`: signals, timeouts and ports."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest

from minigpt.commands import launch

ROOT = helpers.ROOT


@pytest.mark.parametrize(
  ('argv', 'words'),
  [
    (['--workers=0', '--', 'train'], 'workers=0: at least 1'),
    (['--workers=2', '--', 'evaluate'], "'evaluate': only train"),
    (['--', 'train'], '--workers'),
    (['--workers=2'], 'its flags'),
  ],
)
def test_a_launch_that_makes_no_sense_gets_one_line(capsys, argv, words):
  assert helpers.run_here('launch', *argv) == 2
  [line] = capsys.readouterr().err.splitlines()
  assert words in line


def test_workers_leave_when_their_launcher_is_killed(tmp_path):
  code = f"""
from minigpt.commands import launch
launch.launch(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 60'], 1)
"""
  launcher = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
  deadline = time.monotonic() + 60
  pid_file = tmp_path / 'pid'
  while not (pid_file.exists() and pid_file.read_text().strip()):
    assert time.monotonic() < deadline
    time.sleep(0.02)
  worker = Path('/proc', pid_file.read_text().strip())
  assert worker.exists()
  launcher.kill()
  launcher.wait()
  while worker.exists() and ') Z ' not in (worker / 'stat').read_text():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_launched_workers_get_ports_of_their_own():
  ports = launch.free_ports(8)
  assert len(set(ports)) == 8 and min(ports) > 1023


def wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_a_signal_to_launcher_and_workers_at_once_saves(tmp_path):
  """Service managers and batch systems signal the whole group."""
  worker = f"""
import os, time
from pathlib import Path
from minigpt.runtime.signals import StopRequest
folder = Path({str(tmp_path)!r})
with StopRequest('stopping') as stop:
  (folder / f'ready-{{os.getpid()}}').touch()
  while not stop.number:
    time.sleep(0.01)
  time.sleep(0.5)  # A save.
  (folder / f'saved-{{os.getpid()}}').touch()
raise SystemExit(128 + stop.number)
"""
  code = f"""
import sys
from minigpt.commands import launch
sys.exit(launch.launch([sys.executable, '-c', {worker!r}], 2))
"""
  launcher = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
  wait_for(lambda: len(list(tmp_path.glob('ready-*'))) == 2)
  workers = [
    int(path.name.partition('-')[2]) for path in tmp_path.glob('ready-*')
  ]
  for pid in (launcher.pid, *workers):
    os.kill(pid, signal.SIGTERM)
  assert launcher.wait(30) == 128 + signal.SIGTERM
  assert len(list(tmp_path.glob('saved-*'))) == 2


def test_a_worker_that_still_saves_is_waited_for(tmp_path, monkeypatch):
  def write(name):
    with open(tmp_path / name, 'wb') as file:
      file.write(bytes(1 << 16))
      os.fsync(file.fileno())

  before = launch._written_bytes(os.getpid())
  write('probe')
  if launch._written_bytes(os.getpid()) == before:
    pytest.skip('this system does not count what a process writes')
  code = f"""
import os, signal, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
if '"index": 1' in os.environ['TF_CONFIG']:
  raise SystemExit(1)
while not stopped:
  time.sleep(0.01)
for i in range(10):
  with open({str(tmp_path)!r} + f'/{{i}}', 'wb') as file:
    file.write(bytes(1 << 16))
    os.fsync(file.fileno())
  time.sleep(0.3)
"""
  monkeypatch.setattr(launch, '_PATIENCE', 0.2)
  monkeypatch.setattr(launch, '_GRACE', 1.5)
  assert launch.launch([sys.executable, '-c', code], 2) == 1
  assert (tmp_path / '9').exists()


def test_a_worker_that_does_nothing_is_killed(tmp_path, monkeypatch):
  code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if '"index": 1' in os.environ['TF_CONFIG']:
  raise SystemExit(1)
time.sleep(60)
"""
  monkeypatch.setattr(launch, '_PATIENCE', 0.5)
  monkeypatch.setattr(launch, '_GRACE', 0.3)
  started = time.monotonic()
  assert launch.launch([sys.executable, '-c', code], 2) == 128 + signal.SIGKILL
  assert time.monotonic() - started < 30
