"""`minigpt plan`: its figures and its errors."""

import re

import helpers
import pytest


def planned(capsys, *argv):
  """Returns the output, and the seconds to compute and to communicate."""
  assert helpers.run_here('plan', *argv) == 0
  text = capsys.readouterr().out
  seconds = r'([\d.,]+) s computing, ([\d.,]+) s communicating'
  found = re.search(seconds, text).groups()
  return text, *(float(number.replace(',', '')) for number in found)


def test_more_workers_share_the_computing_and_send_more(capsys):
  flags = ['--preset=gpt2-124m', '--batch_size=8', '--gbps=1']
  alone, computing, communicating = planned(capsys, '--workers=1', *flags)
  assert '124,412,160 parameters' in alone
  assert '0 MB sent by each worker' in alone
  assert 'efficiency 100%' in alone and communicating == 0
  many, of_four, sending = planned(capsys, '--workers=4', *flags)
  assert of_four == pytest.approx(computing / 4, rel=1e-3)
  assert 'efficiency 100%' not in many and sending > 0


def test_a_faster_machine_computes_in_less_time(capsys):
  flags = ['--preset=shakespeare-char', '--steps=100']
  slow, of_slow, _ = planned(capsys, '--gflops=0.1', *flags)
  _, of_fast, _ = planned(capsys, '--gflops=0.2', *flags)
  assert of_fast == pytest.approx(of_slow / 2, rel=1e-3)
  assert '100 steps in' in slow


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--workers=3', '--batch_size=4'], 'batch_size=4 cannot be shared evenly'),
    (['--workers=0'], 'cannot be shared evenly by 0 workers'),
    (['--gbps=0'], 'gbps=0'),
    (['--gflops=inf'], 'gflops=inf'),
    (['--preset=gpt2-123m'], "did you mean 'gpt2-124m'"),
  ],
)
def test_what_cannot_be_planned_is_one_line(capsys, flags, words):
  assert helpers.run_here('plan', *flags) == 2
  out, err = capsys.readouterr()
  assert out == '' and err.count('\n') == 1 and words in err
