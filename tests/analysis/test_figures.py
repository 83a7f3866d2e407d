"""Pictures of runs, and the program that draws them."""

import json

import helpers
import numpy as np
import pytest

from minigpt.analysis import figures
from minigpt.errors import InputError, UsageError

pytest.importorskip('matplotlib')


def make_run(path, n_steps, level=0.0):
  path.mkdir()
  with open(path / 'metrics.jsonl', 'w') as file:
    for step in range(1, n_steps + 1):
      metrics = {'step': step, 'train_loss': level + 4 / step}
      if step % 2 == 0:
        metrics['val_loss'] = level + 5 / step
      file.write(json.dumps(metrics) + '\n')
  return path


def lines(panel):
  return {line.get_label(): line for line in panel.get_lines()}


def test_one_run_shows_both_losses_in_one_panel(tmp_path):
  [panel] = figures.losses([make_run(tmp_path / 'a', 4)]).axes
  found = lines(panel)
  assert panel.get_title() == 'a'
  assert list(found['training'].get_ydata()) == [4, 2, 4 / 3, 1]
  assert list(found['validation'].get_xdata()) == [2, 4]
  assert list(found['validation'].get_ydata()) == [2.5, 1.25]


def test_many_runs_are_side_by_side_and_keep_their_colour(tmp_path):
  runs = [make_run(tmp_path / 'a', 4), make_run(tmp_path / 'b', 6, level=1)]
  train, val = figures.losses(runs).axes
  assert (train.get_title(), val.get_title()) == ('training', 'validation')
  for panel in (train, val):
    found = lines(panel)
    assert list(found) == ['a', 'b']
    assert found['a'].get_color() != found['b'].get_color()
    assert found['a'].get_color() == lines(train)['a'].get_color()
  assert list(lines(val)['b'].get_ydata()) == [3.5, 2.25, 1 + 5 / 6]
  assert train.get_ylim() == val.get_ylim()


def test_a_long_curve_is_averaged():
  metrics = [{'step': i, 'train_loss': i % 2} for i in range(10_000)]
  steps, values = figures.curve(metrics, 'train_loss')
  assert len(steps) == 1000
  assert steps[0] == np.mean(range(10))
  assert set(values) == {0.5}


def test_a_run_without_steps_is_named(tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='empty holds no metrics'):
    figures.losses([tmp_path / 'empty'])


def test_a_missing_matplotlib_is_said(monkeypatch):
  monkeypatch.setattr(figures, 'can_draw', lambda: False)
  with pytest.raises(InputError, match='pip install'):
    figures.new_figure(1, 1)


def test_pictures_that_cannot_be_are_known_before_the_work(
  tmp_path, monkeypatch
):
  figures.check_output('plot', tmp_path / 'a.png')
  assert not list(tmp_path.iterdir())
  with pytest.raises(UsageError, match=r'plot=a.jpg: it must end in .png'):
    figures.check_output('plot', 'a.jpg')
  (tmp_path / 'b.svg').mkdir()
  with pytest.raises(
    InputError, match=r'b.svg could not be written \(Is a dir'
  ):
    figures.check_output('plot', tmp_path / 'b.svg')
  monkeypatch.setattr(figures, 'can_draw', lambda: False)
  with pytest.raises(InputError, match='pip install'):
    figures.check_output('plot', tmp_path / 'a.png')


def test_a_suffix_chooses_the_format(tmp_path):
  figure = figures.new_figure(1, 1)
  assert figures.save(figure, tmp_path / 'v1.5') == [
    tmp_path / 'v1.5.png',
    tmp_path / 'v1.5.svg',
  ]
  assert figures.save(figure, tmp_path / 'a.pdf') == [tmp_path / 'a.pdf']
  with pytest.raises(InputError, match='No such file'):
    figures.save(figure, tmp_path / 'missing' / 'a.png')


def test_attention_is_drawn_as_it_is(found):
  pytest.importorskip('matplotlib')
  figure = figures.attention(found.attention, list('abcdefg'), [1], [0, 1])
  one, two, _ = figure.axes
  for head, axes in enumerate([one, two]):
    image = axes.get_images()[0].get_array()
    np.testing.assert_array_equal(image, found.attention[1, head])
  assert one.get_title() == 'layer 1, head 0'
  assert [t.get_text() for t in one.get_yticklabels()] == list('abcdefg')


def test_the_program_writes_png_and_svg(tmp_path):
  make_run(tmp_path / 'a', 4)
  make_run(tmp_path / 'b', 4)
  result = helpers.run('-m', 'minigpt', 'plots', 'a', 'b', cwd=tmp_path)
  assert (result.returncode, result.stdout) == (0, 'losses.png\nlosses.svg\n')
  assert (tmp_path / 'losses.png').read_bytes()[1:4] == b'PNG'
  assert '<svg' in (tmp_path / 'losses.svg').read_text()


def test_the_same_figure_makes_the_same_file(tmp_path):
  """So that one under version control changes only with its picture."""
  run = make_run(tmp_path / 'a', 4)
  for end in figures.FORMATS:
    [one] = figures.save(figures.losses([run]), tmp_path / f'one{end}')
    [two] = figures.save(figures.losses([run]), tmp_path / f'two{end}')
    assert one.read_bytes() == two.read_bytes(), end
  assert b'<dc:date>' not in (tmp_path / 'one.svg').read_bytes()
