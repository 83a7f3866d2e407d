"""Figures in general, and attention maps."""

import numpy as np
import pytest

from minigpt.analysis import figures
from minigpt.errors import InputError, UsageError

pytest.importorskip('matplotlib')


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


def test_the_same_figure_makes_the_same_file(tmp_path):
  """Files under version control must change only if the figure does."""

  def save(name):
    figure = figures.bars(['a', 'b'], [1, 2], 'name', 'value')
    return figures.save(figure, tmp_path / name)

  for end in figures.FORMATS:
    [one], [two] = save(f'one{end}'), save(f'two{end}')
    assert one.read_bytes() == two.read_bytes(), end
  assert b'<dc:date>' not in (tmp_path / 'one.svg').read_bytes()
