"""metrics.jsonl, whatever happens to it."""

import json
from pathlib import Path

import pytest

from minigpt.training.metrics import MetricsFile, read_metrics


def test_metrics_survive_a_kill_while_the_file_is_reopened(
  tmp_path, monkeypatch
):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'step': s, 'train_loss': 1.0}) + '\n' for s in (1, 2, 3)
    )
  )

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Path, 'replace', killed)
    MetricsFile(path, 2)
  assert [m['step'] for m in read_metrics(path)] == [1, 2, 3]
  MetricsFile(path, 2).close()
  assert [m['step'] for m in read_metrics(path)] == [1, 2]
