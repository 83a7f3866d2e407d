"""Requests to stop, in a process of their own."""

import os
import signal
import subprocess
import sys
import time

import helpers
import pytest

from minigpt.runtime import signals

ROOT = helpers.ROOT


def wait_for(stop):
  """Waits until the thread has read a signal, or for some time."""
  for _ in range(1000):
    if stop.number:
      return
    signal.sigtimedwait([], 0.01)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted(number, capfd):
  before = signal.getsignal(number)
  with signals.StopRequest('stopping') as stop:
    assert stop.number == 0
    os.kill(os.getpid(), number)
    wait_for(stop)
    assert stop.number == number
  assert capfd.readouterr().err == 'stopping\n'
  assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.StopRequest('stopping') as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert stop.number == 0
  finally:
    signal.signal(signal.SIGHUP, before)


def started(code):
  """Starts a program, and waits until it has printed 'ready'."""
  program = subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert program.stdout.readline() == 'ready\n'
  return program


# One native call, during which Python's own handlers never run.
BUSY = 'import hashlib; hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)\n'


def stop_twice(code):
  """Runs `code`; the second signal must end it, whatever it is busy with."""
  # Not SIGINT, which a shell makes background jobs ignore.
  with started(code) as program:
    try:
      program.send_signal(signal.SIGTERM)
      assert program.stderr.readline() == 'stopping\n'
      time.sleep(0.3)
      program.send_signal(signal.SIGTERM)
      assert program.wait(60) == 128 + signal.SIGTERM
    finally:
      program.kill()


def test_a_second_signal_leaves_at_once():
  code = (
    'from minigpt.runtime import signals\n'
    'signals.SAME_REQUEST = 0.2\n'
    'with signals.StopRequest("stopping") as stop:\n'
    '  print("ready", flush=True)\n'
    f'  {BUSY}'
  )
  stop_twice(code)


@pytest.mark.parametrize('second', [signal.SIGTERM, signal.SIGHUP])
def test_signals_within_moments_are_one_request(second, capfd):
  """A service manager signals a whole group, a launcher then its workers."""
  with signals.StopRequest('stopping') as stop:
    for number in (signal.SIGTERM, second, second):
      os.kill(os.getpid(), number)
      wait_for(stop)
      time.sleep(0.1)
    assert stop.number == signal.SIGTERM
  assert capfd.readouterr().err == 'stopping\n'


@pytest.mark.parametrize(
  'number',
  [signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGXCPU],
)
def test_what_batch_systems_send_asks_to_stop(number):
  with signals.StopRequest('stopping') as stop:
    os.kill(os.getpid(), number)
    wait_for(stop)
    assert stop.number == number


def test_a_second_signal_waits_for_a_save_under_way(tmp_path):
  code = (
    'import time\n'
    'from pathlib import Path\n'
    'from minigpt.runtime import signals\n'
    'signals.SAME_REQUEST = 0.1\n'
    'def save():\n'
    '  time.sleep(0.5)\n'
    f'  Path({str(tmp_path)!r}, "saved").touch()\n'
    'with signals.StopRequest("stopping", save) as stop:\n'
    '  print("ready", flush=True)\n'
    f'  {BUSY}'
  )
  stop_twice(code)
  assert (tmp_path / 'saved').exists()
