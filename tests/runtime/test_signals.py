"""A request to stop, in a process of its own."""

import os
import signal
import subprocess
import sys

import helpers
import pytest

from minigpt.runtime import signals

ROOT = helpers.ROOT


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted(number, capfd):
  before = signal.getsignal(number)
  with signals.StopRequest('stopping') as stop:
    assert stop.number == 0
    os.kill(os.getpid(), number)
    for _ in range(1000):
      if stop.number:
        break
      signal.sigtimedwait([], 0.01)
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


def test_a_second_signal_leaves_at_once():
  code = (
    'import hashlib\n'
    'from minigpt.runtime.signals import StopRequest\n'
    'with StopRequest("stopping") as stop:\n'
    '  print("ready", flush=True)\n'
    # One native call: Python's own handlers never run.
    '  hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)\n'
  )
  program = subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  # Not SIGINT: a shell starts what runs in the background deaf to it.
  with program:
    try:
      assert program.stdout.readline() == 'ready\n'
      program.send_signal(signal.SIGTERM)
      assert program.stderr.readline() == 'stopping\n'
      program.send_signal(signal.SIGTERM)
      assert program.wait(10) == 128 + signal.SIGTERM
    finally:
      program.kill()
