"""Export and serving: text in, text out, and no Python in between."""

import quiet  # noqa: F401, I001

import tempfile
from pathlib import Path

import drawing
import tensorflow as tf

from minigpt.conformance.serving_session import ServingSession
from minigpt.generation.request import Request
from minigpt.serving import client
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.signatures import Server
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run

with (
  tempfile.TemporaryDirectory() as workdir,
  open_run(workdir, preset='mini', say=say_nothing) as run,
):
  run.train()
model, config, tokenizer = run.model, run.config.model, run.data.tokenizer

# The server's functions, traced; their variables; both written to a folder.
folder = Path(tempfile.mkdtemp())
server = Server(model.params, config, tokenizer, max_new_tokens_limit=40)
traced = server.signatures()
signatures = {name: traced[name] for name in ('generate', 'next_token')}
tf.saved_model.save(server, str(folder), signatures=signatures)
for path in sorted(folder.rglob('*.*')):
  print(path.relative_to(folder))

# From here on as TensorFlow Serving does it: a graph, a session, and names.
session = ServingSession(folder)
inputs, outputs = session.signatures()['generate']
for name, spec in [*inputs.items(), *outputs.items()]:
  arrow = 'in ' if name in inputs else 'out'
  print(f'{arrow} {name:19}{spec.dtype.name:8}{spec.shape}')

prompts = ['the sun', 'the stars shine']
answers = client.generate(session, prompts, Request(20, temperature=0))
for prompt, answer in zip(prompts, answers, strict=True):
  print(f'{prompt!r} -> {answer.text!r}')

# A bad request is refused by the name of its input; the next one is answered.
sampling = client.sampling_inputs(Request(20), 1)
try:
  session.predict('generate', {'prompt': ['the Sun'], **sampling})
except EndpointError as error:
  print(error.kind, error.message.partition('[')[2].partition(']')[0])
print(client.generate(session, ['the sun'], Request(20, temperature=0))[0].text)

if drawing.path():
  figure, panels = drawing.new(8, 2.4, 3)
  prompts = ['the s', 'the st', 'the sta']
  asked = {'prompt': prompts, 'k': [5, 5, 5]}
  found = session.predict('next_token', asked)
  for i, (panel, prompt) in enumerate(zip(panels, prompts, strict=True)):
    letters = [repr(text.decode()) for text in found['text'][i, :5]]
    panel.bar(letters, found['probabilities'][i, :5])
    panel.set_ylim(0, 1)
    panel.set_title(f'after {prompt!r}, as served', fontsize=9)
  drawing.save(figure)
