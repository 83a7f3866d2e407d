"""Own texts: trained on, exported, and served."""

import inspect
import textwrap

import helpers
import pytest

from minigpt.checkpoints.loading import load_trained
from minigpt.conformance.serving_session import ServingSession
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request
from minigpt.serving.export import export
from minigpt.serving.options import Options

# Without spaces, from right to left, and source code.
JAPANESE = (
  '朝の海は静かです。船は港を出て、遠い島へ向かいます。夜の海も静かです。\n'
)
HEBREW = 'הים שקט בבוקר. הספינה יוצאת מן הנמל, אל אי רחוק. גם בלילה הים שקט.\n'
TEXTS = {
  'japanese': (JAPANESE * 12, '船は港'),
  'hebrew': (HEBREW * 12, 'הים \u200fשקט'),
  'code': (inspect.getsource(textwrap), '  def wrap(self):\n\t# '),
}


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  """A run on own texts, and its export as a server loads it."""
  folder = tmp_path_factory.mktemp('own')
  for name, (text, _) in TEXTS.items():
    (folder / f'{name}.txt').write_text(text, encoding='utf-8')
  given = dict(
    dataset=f'{folder}/*.txt',
    tokenizer='bpe',
    vocab_size=320,
    special=('<|user|>',),
    context_length=32,
    steps=3,
    sample_every=0,
    eval_every=0,
    init_std=0.5,
    compile='graph',
  )
  with helpers.open_tiny_run(folder / 'run', **given) as run:
    run.train()
  # The same command again continues that run.
  helpers.open_tiny_run(folder / 'run', **given).__exit__(None, None, None)
  trained = load_trained(folder / 'run')
  options = Options(max_new_tokens_limit=8, batch_sizes=(1,))
  session = ServingSession(export(trained, folder / 'models', options).path)
  yield trained, session
  session.close()


def test_the_server_speaks_each_language_as_the_model_does(own):
  trained, session = own
  prompts = [prompt for _, prompt in TEXTS.values()]
  prompts = [*prompts, *(f'<|user|>{prompt}\r\n' for prompt in prompts)]
  usual = dict(seed=0, top_k=0, top_p=1, repetition_penalty=1, min_new_tokens=0)
  asked = {k: [v] * len(prompts) for k, v in usual.items()}
  asked |= {'max_new_tokens': [6] * len(prompts)}
  answer = session.predict(
    'generate', asked | {'prompt': prompts, 'temperature': [0] * len(prompts)}
  )
  live = Generator(trained.model.params, trained.run.model, trained.tokenizer)
  texts = live(prompts, Request(max_new_tokens=6, temperature=0))
  found = [text.decode('utf-8', 'replace') for text in answer['text']]
  assert found == texts
  assert len(set(found)) > 1


@pytest.mark.parametrize('language', TEXTS)
def test_the_server_counts_the_tokens_of_each_language(own, language):
  trained, session = own
  _, prompt = TEXTS[language]
  ids = trained.tokenizer.encode(prompt)
  assert trained.tokenizer.decode(ids) == prompt
  # The texts share few merges, so each has some of its own.
  assert len(ids) < len(prompt.encode())
  scores = session.predict('score', {'text': [prompt]})
  assert scores['num_tokens'].tolist() == [len(ids) - 1]
