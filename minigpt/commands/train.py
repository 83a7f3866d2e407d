r"""Trains a GPT on text.

  python -m minigpt train --preset=shakespeare-char --dataset=stdlib \
    --workdir=runs/s

  python -m minigpt train --init_from=downloads/gpt2 --dataset=a.txt \
    --workdir=runs/a

A preset sets the model and the training recipe; any flag overrides it.
--init_from starts from a trained model, with its weights and tokenizer. The
same command again continues the run from its newest checkpoint.

If TF_CONFIG is set, the process is one of several workers (see `minigpt
launch`).
"""

import time
from pathlib import Path

from minigpt.analysis import figures, run_figures, tensorboard
from minigpt.commands.flags import train as flags
from minigpt.config import DataConfig, GPTConfig, TrainConfig
from minigpt.errors import UsageError
from minigpt.runtime import app
from minigpt.training import distribution, rule_of_thumb, run_setup
from minigpt.training.trainer import Observer, Stopped, Trainer, no_observer


def main() -> int:
  """Trains to the end, or until a signal; returns the exit code."""
  started = time.monotonic()
  overrides = app.explicit_flags(
    flags.FLAGS, GPTConfig, DataConfig, TrainConfig
  )
  if flags.DRY_RUN.value:
    overrides = run_setup.resolve_overrides(overrides)
    setup = run_setup.new_setup(overrides, flags.PRESET.value)
    print(run_setup.describe(setup))
    n_tokens = setup.data.train.n_tokens
    minutes, gflops = flags.MINUTES.value, flags.GFLOPS.value
    print(rule_of_thumb.describe(n_tokens, minutes, gflops))
    return 0
  if flags.WORKDIR.value is None:
    raise UsageError('--workdir is missing; say where the run is kept')
  # TensorFlow joins the cluster only before its first operation.
  path, workers = Path(flags.WORKDIR.value), distribution.connect()
  observer = _observer(path) if workers.is_chief else no_observer
  with run_setup.open_run(
    path,
    overrides,
    preset=flags.PRESET.value,
    resume=flags.RESUME.value,
    workers=workers,
  ) as trainer:
    outcome = trainer.train(observer)
    if isinstance(outcome, Stopped):
      print(
        f'step {trainer.step} is saved; the same command continues from there'
      )
      return 128 + outcome.signal
    _finish(trainer, started)
  return 0


def _observer(path: Path) -> Observer:
  """Returns an observer that writes TensorBoard events, if they are wanted."""
  if flags.TENSORBOARD.value or flags.PROFILE_STEPS.value:
    return tensorboard.open_writer(
      path / 'tensorboard', flags.PROFILE_STEPS.value
    )
  return no_observer


def _finish(trainer: Trainer, started: float) -> None:
  """Draws the curves of a finished run, and prints its summary."""
  if trainer.workers.is_chief:
    summary = trainer.summary(time.monotonic() - started)
    if figures.can_draw():
      figures.save(run_figures.curves([trainer.path]), trainer.path / 'loss')
    print(summary)
  # The other workers still need the chief for collectives, so wait for all.
  trainer.workers.barrier()
