"""Export and serving: text in, text out, and no Python in between."""

import quiet  # noqa: F401, I001

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from minigpt.config import preset_values, resolve
from minigpt.conformance.serving_session import ServingSession
from minigpt.data.batches import train_batches
from minigpt.generation.generator import Request
from minigpt.model.transformer import GPT
from minigpt.serving import client
from minigpt.serving.endpoint import EndpointError
from minigpt.serving.signatures import Server
from minigpt.training.step import TrainState, compiled_train_steps
from minigpt.training.trainer import prepare

run, tokenizer, windows, *_ = prepare(resolve(preset_values('mini', {})))
model = GPT(run.model, run.train.seed)
train_steps = compiled_train_steps(TrainState(model), run.model, run.train)
calls = [range(i, i + 17) for i in range(0, run.train.steps, 17)]
for batch in train_batches(windows, (1, 2), 0, calls, 17):
  train_steps(batch, np.int32(17))

# The server's functions, traced; their variables; both written to a folder.
folder = Path(tempfile.mkdtemp())
server = Server(model.params, run.model, tokenizer, max_new_tokens_limit=40)
signatures = {'generate': server.signatures()['generate']}
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
