"""`minigpt inspect`: its page."""

import helpers
import numpy as np
from html_report_data import read_attention, read_data

from minigpt import tokenizers
from minigpt.analysis.introspection import inspect
from minigpt.checkpoints import workdir
from minigpt.config import GPTConfig
from minigpt.model.params import init_params

PROMPT = 'a <b>\nb'
CONFIG = GPTConfig(
  vocab_size=6,
  context_length=8,
  emb_dim=4,
  n_heads=2,
  n_layers=2,
  init_std=0.5,
)


def test_the_command_writes_the_page(tmp_path):
  tokenizer = tokenizers.build('char', PROMPT)
  params = init_params(CONFIG, seed=3)
  found = inspect(tokenizer.encode(PROMPT), params, CONFIG)
  workdir.write(tmp_path / 'run', CONFIG, params, tokenizer)
  flags = [f'--workdir={tmp_path / "run"}', f'--prompt={PROMPT}']
  result = helpers.run(
    '-m', 'minigpt', 'inspect', *flags, f'--output={tmp_path / "r.html"}'
  )
  assert (result.returncode, result.stdout) == (0, f'{tmp_path / "r.html"}\n')
  data = read_data((tmp_path / 'r.html').read_text(encoding='utf-8'))
  np.testing.assert_allclose(read_attention(data), found.attention, atol=1e-6)
