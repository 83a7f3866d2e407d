"""The HTML report: its data, and its rendering in a browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from html_report_data import read_attention, read_data

from minigpt.analysis import html_report
from minigpt.analysis.introspection import head_habits, inspect
from minigpt.config import GPTConfig
from minigpt.model.params import init_params


@pytest.fixture
def tokenizer(prompted):
  return prompted.tokenizer


def test_the_page_carries_what_was_found(found, tokenizer):
  data = read_data(html_report.render(found, tokenizer, 'title'))
  assert data['tokens'] == ['a', '·', '<', 'b', '>', '⏎', 'b']
  maps = read_attention(data)
  np.testing.assert_array_equal(maps, found.attention)
  np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-6)
  np.testing.assert_allclose(data['surprise'], found.surprise, atol=1e-4)
  np.testing.assert_allclose(data['norms'], found.norms, atol=1e-3)
  for name, weights in head_habits(found.attention).items():
    np.testing.assert_allclose(data['habits'][name], weights, atol=1e-3)
  # Rounded to five places.
  np.testing.assert_allclose(
    data['lens']['probs'][2], data['next']['probs'], atol=1.1e-5
  )


METRICS = [
  {'step': step, 'train_loss': 4 / step, 'learning_rate': 0.1, 'grad_norm': 2.0}
  | ({'val_loss': 0.5, 'val_accuracy': 0.25} if step == 400 else {})
  for step in range(1, 401)
]


def test_the_page_shows_how_the_run_went(found, tokenizer):
  data = read_data(html_report.render(found, tokenizer, 'title', METRICS))
  loss, accuracy, rate, norm = data['run']
  training, validation = loss['lines']
  assert len(training['steps']) == len(training['values']) == 300
  # Each of the first 100 points averages two steps.
  assert training['steps'][:2] == [1.5, 3.5]
  assert training['values'][:2] == [3, pytest.approx(7 / 6, rel=1e-4)]
  assert (validation['steps'], validation['values']) == ([400], [0.5])
  assert accuracy['lines'][0]['values'] == [0.25]
  assert rate['title'] == 'learning rate' and norm['log']
  assert 'rate is too high' in loss['look']
  assert read_data(html_report.render(found, tokenizer, ''))['run'] == []


def test_text_cannot_break_out_of_the_page(found, tokenizer):
  page = html_report.render(
    found, tokenizer, '</title><script>alert(1)</script>'
  )
  assert '<script>alert' not in page
  assert read_data(page)['tokens'][2] == '<'


def test_the_page_of_a_larger_model_stays_small(tokenizer):
  config = GPTConfig(
    vocab_size=6, context_length=64, emb_dim=12, n_heads=6, n_layers=6
  )
  found = inspect(np.arange(64) % 6, init_params(config), config)
  assert len(html_report.render(found, tokenizer, '').encode()) < 3e6


# Presses keys as a user would, then writes what the page shows to its title.
KEYS = """<script>{
const press = (on, key) => document.querySelector(on).dispatchEvent(
  new KeyboardEvent('keydown', {key, bubbles: true}));
const text = (id) => document.getElementById(id).textContent;
const said = [document.querySelectorAll('#maps button').length,
  document.querySelectorAll('#map .cell').length,
  document.querySelectorAll('#lens td').length,
  document.querySelectorAll('#curves path').length];
press('#tokens', 'Home'); press('#tokens', 'ArrowRight');
press('#maps', 'ArrowDown'); press('#maps', 'ArrowRight');
press('#map', 'ArrowDown'); press('#map', 'ArrowRight');
said.push(text('surprise'), text('h-map'), text('weight'), text('habit'));
document.querySelectorAll('#tokens button')[3].click();
said.push(text('surprise'), text('curves'));
document.title = JSON.stringify(said);
}</script>"""


def chromium(page, profile):
  """Returns the page's final HTML and the output of its console."""
  browser = shutil.which('chromium') or shutil.which('google-chrome')
  if not browser:
    pytest.skip('there is no Chromium (apt-get install chromium)')
  flags = (
    'headless no-sandbox disable-gpu disable-quic no-first-run '
    'disable-background-networking disable-component-update disable-sync '
    f'enable-logging=stderr dump-dom user-data-dir={profile}'
  )
  result = subprocess.run(
    [browser, *(f'--{flag}' for flag in flags.split()), page.as_uri()],
    capture_output=True,
    text=True,
    timeout=60,
  )
  said = [line for line in result.stderr.splitlines() if 'CONSOLE' in line]
  return result.stdout, said


def test_the_page_works_in_a_browser(tmp_path, found, tokenizer):
  page = tmp_path / 'page.html'
  text = html_report.render(found, tokenizer, 'title', METRICS)
  page.write_text(text.replace('</body>', KEYS + '</body>'), encoding='utf-8')
  dom, said = chromium(page, tmp_path / 'profile')
  assert said == []
  counts = [2 * 2, 7 * 8 // 2, 3 * 7, 5]
  shown = json.loads(re.search('<title>(.*)</title>', dom)[1])
  assert shown[:4] == counts
  nats = found.surprise
  of_1 = f'token 1, ·: {nats[0]:.2f} nats, expected with '
  assert shown[4].startswith(of_1)
  assert shown[5] == 'Layer 1, head 1'
  seen, weight = shown[6].rsplit(' ', 1)
  assert seen == '&lt; (token 2) looks at · (token 1) with'
  assert float(weight[:-1]) == pytest.approx(
    100 * found.attention[1, 1, 2, 1], abs=0.051
  )
  assert re.fullmatch(
    r'Of its weight .* previous token, .* first token\.', shown[7]
  )
  assert shown[8].startswith(f'token 3, b: {nats[2]:.2f} nats')
  # The titles, the axes and what the lines are called.
  for words in ('loss (nats per token)', '100200300400step', 'validation'):
    assert words in shown[9]
