"""What the inspection finds, and the page and pictures that show it."""

import base64
import json
import re
import shutil
import subprocess

import helpers
import numpy as np
import pytest
import tensorflow as tf

from minigpt import tokenizers
from minigpt.analysis import figures, html_report
from minigpt.analysis.introspection import inspect, label
from minigpt.checkpoints import workdir
from minigpt.config import GPTConfig
from minigpt.errors import UsageError
from minigpt.model.loss import loss_fn
from minigpt.model.params import init_params
from minigpt.model.transformer import gpt

PROMPT = 'a <b>\nb'
CONFIG = GPTConfig(
  vocab_size=6,
  context_length=8,
  emb_dim=4,
  n_heads=2,
  n_layers=2,
  init_std=0.5,
)


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizers.build('char', PROMPT)


@pytest.fixture(scope='module')
def params():
  return init_params(CONFIG, seed=3)


@pytest.fixture(scope='module')
def found(params, tokenizer):
  return inspect(tokenizer.encode(PROMPT), params, CONFIG, k=4)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def normalized(x):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1)[..., None] + 1e-5)


def test_attention_is_that_of_the_paper(found, params):
  x = params.wte.numpy()[found.ids] + params.wpe.numpy()[:7]
  qkv = normalized(x) @ params.blocks[0].attn.c_attn.w.numpy()
  for head in range(2):
    q, k = (qkv[:, i + 2 * head :][:, :2] for i in (0, 4))
    scores = np.where(np.tri(7), q @ k.T / np.sqrt(2), -np.inf)
    np.testing.assert_allclose(
      found.attention[0, head], softmax(scores), atol=1e-6
    )


def test_surprise_is_the_loss_token_by_token(found, params):
  windows = tf.constant(found.ids[None])
  assert found.surprise.shape == (6,)
  np.testing.assert_allclose(
    found.surprise.mean(), loss_fn(windows, params, CONFIG), rtol=1e-6
  )


def test_the_likeliest_tokens_come_first(found, params):
  probs = softmax(gpt(found.ids[None], params, CONFIG)[0].numpy())
  best = np.argsort(-probs, -1)[:, :4]
  np.testing.assert_array_equal(found.next_tokens.ids, best)
  np.testing.assert_allclose(
    found.next_tokens.probs, np.take_along_axis(probs, best, -1), rtol=1e-5
  )


def test_the_lens_ends_in_what_the_model_says(found, params):
  assert found.lens.ids.shape == (3, 7, 4)
  np.testing.assert_allclose(
    found.lens.probs[-1], found.next_tokens.probs, rtol=1e-6
  )
  x = params.wte.numpy()[found.ids] + params.wpe.numpy()[:7]
  probs = softmax(normalized(x) @ params.wte.numpy().T)
  np.testing.assert_array_equal(found.lens.ids[0][:, 0], probs.argmax(-1))


def test_a_prompt_that_does_not_fit_is_refused(params):
  for n in (0, 9):
    with pytest.raises(UsageError, match=f'{n} tokens.*context_length=8'):
      inspect(np.zeros(n, np.int32), params, CONFIG)


def test_labels_show_white_space(tokenizer):
  shown = [label(i, tokenizer) for i in tokenizer.encode('a \n')]
  assert shown == ['a', '·', '⏎']


def read_data(page):
  [data] = re.findall(
    '<script id="data" type="application/json">(.*)</script>', page
  )
  assert '<' not in data  # Or a token could end the element.
  return json.loads(data)


def read_attention(data):
  n = len(data['tokens'])
  maps = np.zeros([data['layers'], data['heads'], n, n], np.float32)
  rows, columns = np.tril_indices(n)
  past = np.frombuffer(base64.b64decode(data['attention']), '<f4')
  maps[..., rows, columns] = past.reshape(*maps.shape[:2], -1)
  return maps


def test_the_page_carries_what_was_found(found, tokenizer):
  data = read_data(html_report.render(found, tokenizer, 'title'))
  assert data['tokens'] == ['a', '·', '<', 'b', '>', '⏎', 'b']
  maps = read_attention(data)
  np.testing.assert_array_equal(maps, found.attention)
  np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-6)
  np.testing.assert_allclose(data['surprise'], found.surprise, atol=1e-4)
  assert data['lens']['probs'][2] == data['next']['probs']


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


# Keys as a user would press them, and then what the page shows, as its title.
KEYS = """<script>{
const press = (on, key) => document.querySelector(on).dispatchEvent(
  new KeyboardEvent('keydown', {key, bubbles: true}));
const text = (id) => document.getElementById(id).textContent;
const said = [document.querySelectorAll('#maps button').length,
  document.querySelectorAll('#map .cell').length,
  document.querySelectorAll('#lens td').length];
press('#tokens', 'Home'); press('#tokens', 'ArrowRight');
press('#maps', 'ArrowDown'); press('#maps', 'ArrowRight');
press('#map', 'ArrowDown'); press('#map', 'ArrowRight');
said.push(text('surprise'), text('h-map'), text('weight'));
document.querySelectorAll('#tokens button')[3].click();
said.push(text('surprise'));
document.title = JSON.stringify(said);
}</script>"""


def chromium(page, profile):
  """The page's final HTML, and what its console said."""
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
  text = html_report.render(found, tokenizer, 'title')
  page.write_text(text.replace('</body>', KEYS + '</body>'), encoding='utf-8')
  dom, said = chromium(page, tmp_path / 'profile')
  assert said == []
  counts = [2 * 2, 7 * 8 // 2, 3 * 7]
  shown = json.loads(re.search('<title>(.*)</title>', dom)[1])
  assert shown[:3] == counts
  nats = found.surprise
  of_1 = f'token 1, ·: {nats[0]:.2f} nats, expected with '
  assert shown[3].startswith(of_1)
  assert shown[4] == 'Layer 1, head 1'
  seen, weight = shown[5].rsplit(' ', 1)
  assert seen == '&lt; (token 2) looks at · (token 1) with'
  assert float(weight[:-1]) == pytest.approx(
    100 * found.attention[1, 1, 2, 1], abs=0.051
  )
  assert shown[6].startswith(f'token 3, b: {nats[2]:.2f} nats')


def test_attention_is_drawn_as_it_is(found):
  pytest.importorskip('matplotlib')
  figure = figures.attention(found.attention, list('abcdefg'), [1], [0, 1])
  one, two, _ = figure.axes
  for head, axes in enumerate([one, two]):
    image = axes.get_images()[0].get_array()
    np.testing.assert_array_equal(image, found.attention[1, head])
  assert one.get_title() == 'layer 1, head 0'
  assert [t.get_text() for t in one.get_yticklabels()] == list('abcdefg')


def test_the_program_writes_the_page(tmp_path, params, tokenizer, found):
  workdir.write(tmp_path / 'run', CONFIG, params, tokenizer)
  flags = [f'--workdir={tmp_path / "run"}', f'--prompt={PROMPT}']
  result = helpers.run(
    '-m', 'minigpt', 'inspect', *flags, f'--output={tmp_path / "r.html"}'
  )
  assert (result.returncode, result.stdout) == (0, f'{tmp_path / "r.html"}\n')
  data = read_data((tmp_path / 'r.html').read_text(encoding='utf-8'))
  np.testing.assert_allclose(read_attention(data), found.attention, atol=1e-6)
