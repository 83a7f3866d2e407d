"""Starts commands as a user does, but without importing TensorFlow each time.

Each command runs in a process of its own, with its own flags, folder and
streams. The process is a fork of a server that has only imported TensorFlow.
"""

import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Settings of a run that takes seconds.
TINY = dict(
  dataset='sample',
  context_length=8,
  emb_dim=8,
  n_heads=2,
  n_layers=1,
  drop_rate=0.1,
  batch_size=2,
  steps=60,
  steps_per_call=3,
  compile='graph',  # XLA would compile for longer than the steps run.
  eval_every=10,
  eval_batches=1,
)

# Lets the server find the package from the folder of any test.
os.environ['PYTHONPATH'] = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
_context = multiprocessing.get_context('forkserver')
# minigpt.data.corpus uses the same server.
_context.set_forkserver_preload(['preload'])


def run(*command, cwd=ROOT) -> subprocess.CompletedProcess:
  """Runs `python *command` to its end; `command` as in `start`."""
  with tempfile.TemporaryDirectory() as folder:
    files = [Path(folder, name) for name in ('stdout', 'stderr')]
    process = start(*command, cwd=cwd, files=files)
    process.join()
    said = [file.read_text(encoding='utf-8') for file in files]
  return subprocess.CompletedProcess(command, process.exitcode, *said)


def start(
  *command, cwd=ROOT, files=(os.devnull, os.devnull)
) -> multiprocessing.Process:
  """Starts `python *command`: `-m module`, `-c code` or a script; arguments.

  Args:
    files: where standard output and standard error go.
  """
  process = _context.Process(
    target=_run, args=(list(map(str, command)), str(cwd), files)
  )
  process.start()
  return process


def run_here(name: str, *argv) -> int:
  """Runs a command in this process; returns its exit code."""
  from minigpt.commands import TAKE_ARGUMENTS, module_name
  from minigpt.runtime import app

  module = module_name(name)
  flags = importlib.import_module(f'minigpt.commands.flags.{module}').FLAGS
  command = importlib.import_module(f'minigpt.commands.{module}')
  takes_arguments = name in TAKE_ARGUMENTS

  def main():
    argv_ = [name, *map(str, argv)]
    _, *rest = app.parse_flags(flags, argv_, takes_arguments)
    return command.main(*[rest] if takes_arguments else [])

  try:
    return app.exit_code(main)
  finally:
    flags.unparse_flags()


def _run(command, cwd, files):
  for stream, path in enumerate(files, start=1):
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, stream)
    os.close(file)
  os.chdir(cwd)
  kind, *sys.argv = command if command[0] in ('-m', '-c') else ('', *command)
  what = sys.argv[0]
  if kind == '-m':
    runpy.run_module(what, run_name='__main__', alter_sys=True)
  elif kind == '-c':
    sys.argv[0] = '-c'
    exec(compile(what, '-c', 'exec'), {'__name__': '__main__'})
  else:
    sys.path.insert(0, str(Path(what).resolve().parent))
    runpy.run_path(what, run_name='__main__')


def open_tiny_run(path: Path, **overrides):
  """Opens a run of toy size; returns its trainer, to be used in a `with`."""
  from minigpt.training.metrics import say_nothing
  from minigpt.training.run_setup import open_run

  return open_run(path, {**TINY, **overrides}, say=say_nothing)
