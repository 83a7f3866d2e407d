"""Events for TensorBoard, read back from the files."""

import json

import numpy as np
import pytest
import tensorflow as tf

from minigpt.analysis import tensorboard
from minigpt.errors import UsageError
from minigpt.model.params import named_leaves
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run
from minigpt.training.trainer import no_observer

accumulator = pytest.importorskip(
  'tensorboard.backend.event_processing.event_accumulator'
)

SMALL = {
  'emb_dim': 16,
  'context_length': 16,
  'epochs': 0.0,
  'steps': 8,
  'steps_per_call': 2,
  'eval_every': 4,
  'eval_stride': 0,
  'compile': 'graph',
  'optimizer': 'muon',
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'run'
  with open_run(path, SMALL, preset='mini', say=say_nothing) as run:
    run.generator = lambda prompts, request: [' and so on']
    run.train(tensorboard.open_writer(path / 'tensorboard', '3:6'))
  return run


def read(path):
  sizes = {'tensors': 0}  # `size_guidance` 0 keeps all events.
  return accumulator.EventAccumulator(str(path), sizes).Reload()


@pytest.fixture(scope='module')
def events(run):
  return read(run.path / 'tensorboard')


def values(events, tag):
  return {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}


def test_scalars_are_the_metrics_of_the_run(run, events):
  lines = (run.path / 'metrics.jsonl').read_text().splitlines()
  metrics = [json.loads(line) for line in lines]
  for name in ('train_loss', 'val_loss', 'learning_rate', 'grad_norm'):
    wanted = {m['step']: m[name] for m in metrics if name in m}
    assert values(events, name) == pytest.approx(wanted)
  assert len(values(events, 'train_loss')) == 8
  assert list(values(events, 'val_loss')) == [4, 8]


def test_update_ratios_are_those_of_the_last_step(run):
  rate = 1e-2
  ratios = tensorboard.update_ratios(run, rate)
  assert set(ratios) == {
    name
    for name, leaf in named_leaves(run.model.params).items()
    if len(leaf.shape) == 2
  }
  # Adam's direction is about one in every entry, whatever the gradient.
  wpe = run.model.params.wpe
  assert 0.1 < ratios['wpe'] / (
    rate * np.sqrt(wpe.shape.num_elements()) / np.linalg.norm(wpe)
  ) < 2  # fmt: skip
  # Muon's is 0.2 in every entry.
  w = run.model.params.blocks[0].mlp.c_fc.w
  assert 0.1 < ratios['blocks.0.mlp.c_fc.w'] / (
    rate * np.sqrt(w.shape.num_elements()) / np.linalg.norm(w)
  ) < 0.3  # fmt: skip


def test_evaluations_show_sample_maps_and_histograms(run, events):
  assert list(values(events, 'sample')) == [4, 8]
  assert b'and so on' in values(events, 'sample')[8].item()
  width, height, *images = values(events, 'attention/0')[8]
  assert (width, height, len(images)) == (b'16', b'16', 2)
  image = tf.io.decode_png(images[0]).numpy()[..., 0]
  assert (image[np.triu_indices(16, 1)] == 255).all()
  assert image[0, 0] == 0
  for name, leaf in named_leaves(run.model.params).items():
    bins = values(events, name)[8]
    assert bins[:, 2].sum() == leaf.shape.num_elements()


def test_the_graph_of_the_model_is_there_once(run, events, tmp_path):
  graph = tf.compat.v1.GraphDef.FromString(events.Graph().SerializeToString())
  scopes = {node.name.rpartition('/')[0] for node in graph.node}
  assert {
    'embedding_lookup',
    'block/layernorm',
    'block/dot_product_attention',
    'block/mlp/gelu',
    'embedding_logits',
  } <= scopes
  [head] = [n for n in graph.node if n.name == 'block/mlp/linear_1/MatMul']
  assert head.input[0].startswith('block/mlp/gelu/')
  # A continued run does not write the graph again.
  first = tmp_path / 'events.out.tfevents.1'
  first.touch()
  tensorboard.Writer(tmp_path)(run, [{'step': 1, 'train_loss': 1.0}])
  assert b'dot_product_attention' not in b''.join(
    file.read_bytes() for file in tmp_path.iterdir()
  )


def test_hyperparameters_are_there(events):
  assert events.PluginTagToContent('hparams')


def test_the_asked_for_steps_are_profiled(run):
  assert list(run.path.glob('tensorboard/plugins/profile/*/*.xplane.pb'))


def test_steps_made_again_replace_those_before(run, tmp_path):
  def write(observer, first, loss):
    observer(run, [{'step': first + i, 'train_loss': loss} for i in range(3)])

  write(tensorboard.Writer(tmp_path), 1, 9.0)
  write(tensorboard.Writer(tmp_path), 4, 9.0)
  # As if killed some time ago: file names hold the time in seconds.
  for i, file in enumerate(sorted(tmp_path.iterdir())):
    file.rename(tmp_path / f'events.out.tfevents.{1_000_000_000 + i}')
  write(tensorboard.Writer(tmp_path), 5, 1.0)
  found = values(read(tmp_path), 'train_loss')
  assert found == {1: 9, 2: 9, 3: 9, 4: 9, 5: 1, 6: 1, 7: 1}


def test_steps_to_profile_are_checked(tmp_path):
  for text in ('10', '13:10', 'a:b', '-1:3'):
    with pytest.raises(UsageError, match='two steps like 10:13'):
      tensorboard.open_writer(tmp_path, text)


def test_without_tensorboard_training_goes_on(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    tensorboard.importlib.util, 'find_spec', lambda name: None
  )
  assert tensorboard.open_writer(tmp_path / 'tensorboard') is no_observer
  assert 'tensorboard is not installed' in capsys.readouterr().out
  assert not list(tmp_path.iterdir())
