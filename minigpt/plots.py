"""Pictures of a run's metrics; needs matplotlib (the `viz` extra)."""

import importlib.util
from pathlib import Path

from minigpt.progress import read_metrics


def can_plot() -> bool:
  return importlib.util.find_spec('matplotlib') is not None


def plot_losses(metrics_path: Path, picture: Path) -> None:
  """Draws training and validation loss over steps as a PNG or SVG file."""
  import matplotlib  # Optional, and slow to import.

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  metrics = read_metrics(metrics_path)
  figure, axes = plt.subplots(figsize=(7, 4), layout='constrained')
  for key, label, style in (
    ('train_loss', 'training', {'alpha': 0.6, 'linewidth': 1}),
    ('val_loss', 'validation', {'marker': 'o', 'markersize': 4}),
  ):
    points = [(m['step'], m[key]) for m in metrics if key in m]
    axes.plot(*zip(*points, strict=True), label=label, **style)
  axes.set_xlabel('step')
  axes.set_ylabel('loss (nats per token)')
  axes.grid(alpha=0.3)
  axes.legend()
  figure.savefig(picture, dpi=150)
  plt.close(figure)
