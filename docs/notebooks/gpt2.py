# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # GPT-2's pipeline, at toy size
#
# This notebook makes the same calls that train GPT-2 124M. Only the sizes are small, so
# that it runs in seconds; the text says what they are at full size.

# %%
import json
import random
import tempfile
from pathlib import Path

from minigpt.runtime import startup

startup.configure()  # TensorFlow then prints no log lines of its own.

import tensorflow as tf

tf.get_logger().setLevel('WARNING')

import minigpt
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run

full = minigpt.GPTConfig()
print(f'{full.n_parameters:,} parameters at full size')

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Text
#
# At full size, `minigpt prepare --input='text/*.txt' --tokenizer=gpt2 --output=tokens`
# turns text of any size into files of GPT-2's tokens, and `dataset='tokens'` reads them.

# %%
rng = random.Random(0)
pairs = [(rng.randrange(5), rng.randrange(5)) for _ in range(400)]
text = folder / 'text.txt'
text.write_text(''.join(f'{i} and {j} make {i + j}.\n' for i, j in pairs))
print(text.read_text()[:47])

# %% [markdown]
# ## Training
#
# A run has a preset and settings that override parts of it. At full size,
# `preset='gpt2-124m'` is enough: 2,000 steps of 32 windows of 1,024 tokens.

# %%
small = dict(
  dataset=str(text),
  tokenizer='char',  # gpt2
  context_length=16,  # 1,024
  emb_dim=32,  # 768
  n_heads=4,  # 12
  n_layers=2,  # 12
  batch_size=8,  # 4, eight times for each step
  grad_accum=1,
  steps=100,  # 2,000
  learning_rate=1e-2,
  min_learning_rate=1e-3,
  warmup_steps=10,
  eval_every=50,
  eval_batches=0,
  steps_per_call=10,
)
with open_run(
  folder / 'run', small, preset='gpt2-124m', say=say_nothing
) as run:
  run.train()
lines = (folder / 'run/metrics.jsonl').read_text().splitlines()
records = [json.loads(line) for line in lines]
for record in records:
  if 'val_loss' in record:
    print(f'step {record["step"]:3}  validation loss {record["val_loss"]:.2f}')

# %% [markdown]
# ## Generating
#
# `minigpt.load` loads the best checkpoint of a run, or a GPT-2 as Hugging Face or OpenAI
# published it. In 100 steps the model learns the form of a sum, but not to add.

# %%
model = minigpt.load(folder / 'run')
print(model.generate('3 and 4 ', max_new_tokens=8, temperature=0))

# %% [markdown]
# ## Evaluating
#
# The loss is the cross entropy in nats per token, computed by the model's own function;
# e to the loss is the perplexity. `minigpt evaluate` does this for a whole text.

# %%
from minigpt.model.loss import loss_fn

window = model.tokenizer.encode('2 and 4 make 6.\n')[None]
loss = loss_fn(tf.constant(window), model.params, model.config)
print(f'{float(loss):.2f} nats a token, perplexity {float(tf.exp(loss)):.2f}')

# %% [markdown]
# ## Exporting
#
# The export is a SavedModel that takes text and returns text. TensorFlow Serving can
# serve this folder; here TensorFlow itself loads it.

# %%
from minigpt.checkpoints import loading
from minigpt.serving import export
from minigpt.serving.options import Options

trained = loading.load_trained(folder / 'run')
options = Options(max_new_tokens_limit=16, batch_sizes=(1,))
version = export.export(trained, folder / 'models', options).path
served = tf.saved_model.load(str(version))
print(sorted(served.signatures)[:4], '...')
answer = served.signatures['next_token'](
  prompt=tf.constant(['3 and 4 mak']), k=tf.constant([1])
)
print(answer['text'].numpy()[0, 0].decode())
