"""Output to closed pipes, full disks and limited encodings."""

import os
import signal
import subprocess
import sys

import helpers
import pytest

from minigpt.runtime import output

START = 'import sys\nfrom minigpt.runtime import app, atomic_io, signals\n'


def start(code, **options):
  """Starts a program whose `main` is `code`, as a command would be."""
  lines = [f'  {line}' for line in code.splitlines()]
  program = [START, 'def main():', *lines, 'sys.exit(app.exit_code(main))']
  return subprocess.Popen(
    [sys.executable, '-c', '\n'.join(program)],
    cwd=helpers.ROOT,
    text=True,
    encoding='utf-8',
    **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options},
  )


def closed_pipe():
  """A pipe whose reader has closed it."""
  reader, writer = os.pipe()
  os.close(reader)
  return writer


def test_a_terminal_without_a_character_is_shown_its_number():
  env = {**os.environ, 'PYTHONIOENCODING': 'ascii'}
  out, err = start("print('a\\u2014\\udcff')", env=env).communicate()
  assert (out, err) == ('a\\u2014\\udcff\n', '')


def test_an_argument_that_is_not_utf8_can_be_printed():
  out, err = start("print('\\udcff')").communicate()
  assert (out, err) == ('\\udcff\n', '')


@pytest.mark.parametrize('streams', [('stdout',), ('stdout', 'stderr')])
def test_a_reader_that_has_left_ends_the_command_without_a_word(
  streams, tmp_path
):
  pipe = closed_pipe()
  program = start(
    f'with atomic_io.new_folder({str(tmp_path / "a")!r}) as folder:\n'
    '  (folder / "b").touch()\n'
    '  print("result", flush=True)\n'
    '  (folder / "c").touch()',
    **dict.fromkeys(streams, pipe),
  )
  os.close(pipe)
  _, err = program.communicate()
  assert program.returncode == 128 + signal.SIGPIPE
  assert not err
  assert not list(tmp_path.iterdir())


def test_a_run_that_is_training_saves_when_its_reader_has_left():
  pipe = closed_pipe()
  program = start(
    'with signals.StopRequest("stopping") as stop:\n'
    '  while not stop.number:\n'
    '    print("step", flush=True)\n'
    'print("saved", file=sys.stderr)\n'
    'return 128 + stop.number',
    stdout=pipe,
  )
  os.close(pipe)
  _, err = program.communicate()
  assert err == 'stopping\nsaved\n'
  assert program.returncode == 128 + signal.SIGTERM


def test_a_stream_that_was_closed_before_is_no_fault():
  program = start('print("result")', preexec_fn=lambda: os.close(1))
  assert program.communicate()[1] == ''
  assert program.returncode == 0


@pytest.mark.parametrize('command', [['--help'], ['generate', '--help']])
def test_help_ends_when_its_reader_has_left(command):
  pipe = closed_pipe()
  done = subprocess.run(
    [sys.executable, '-m', 'minigpt', *command],
    cwd=helpers.ROOT,
    stdout=pipe,
    stderr=subprocess.PIPE,
  )
  os.close(pipe)
  assert done.returncode == 128 + signal.SIGPIPE
  assert done.stderr == b''


@pytest.mark.parametrize(
  ('started', 'found'),
  [
    ('/v/bin/python /v/bin/minigpt train', 'minigpt'),
    ('/v/bin/python -I .venv/bin/minigpt train', 'minigpt'),
    ('python -m minigpt train', 'python -m minigpt'),
    ('python train.py --steps=2', 'python -m minigpt'),
    ('python', 'python -m minigpt'),
  ],
)
def test_other_commands_are_named_as_this_one_was(started, found, monkeypatch):
  monkeypatch.setattr('sys.orig_argv', started.split())
  assert output.program() == found
