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
# # A character model, from its text to its answers
#
# Three sentences of 82 characters, a transformer of one block, ten epochs. All of it
# takes seconds on two cores. The [lesson](../lesson/README.md) explains each part.

# %%
import tempfile

from minigpt.runtime import startup

startup.configure()  # TensorFlow then prints no log lines of its own.

import minigpt
from minigpt.data.sources import SAMPLE
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run
from minigpt.training.summary import summary

print(len(SAMPLE), 'characters:', SAMPLE)

# %% [markdown]
# ## The text as numbers
#
# Each distinct character gets an id, its place in the alphabet of the text.

# %%
from minigpt import tokenizers

tokenizer = tokenizers.build('char', SAMPLE)
print(tokenizer.vocab_size, 'characters:', repr(tokenizer.characters))
ids = tokenizer.encode('the sun')
print(ids, '->', repr(tokenizer.decode(ids)))

# %% [markdown]
# ## The model
#
# The preset `mini`: a context of 48 characters, vectors of 64 numbers, two heads, one
# block. `open_run` makes its variables; the summary counts them.

# %%
workdir = tempfile.mkdtemp()
run = open_run(workdir, preset='mini', say=say_nothing)
print(summary(run.model.params, run.config.model))

# %% [markdown]
# ## Training
#
# 34 windows in batches of two are 17 steps an epoch. A run given in epochs is evaluated
# after each: mean loss in nats, and the share of characters that were the most likely,
# on the text that it is trained on and on the validation part. Here both are the same
# three sentences. A model that knows nothing would have a loss of ln 16 = 2.77.


# %%
def show(trainer, records):
  record = records[-1]
  if 'epoch' in record:
    print(
      f'epoch {record["epoch"]:2.0f}/10'
      f'  train {record["train_eval_loss"]:.2f}'
      f'  accuracy {record["train_eval_accuracy"]:.2f}'
      f'  val {record["val_loss"]:.2f}  accuracy {record["val_accuracy"]:.2f}'
    )


with run:
  run.train(show)

# %% [markdown]
# ## Generating
#
# At temperature 0 each character is the most likely one. A model this small, trained on
# this text alone, has learned it by heart.


# %%
def generate_text(model, prompt, length=50, **options):
  """Returns the prompt and `length` characters after it."""
  return prompt + model.generate(prompt, max_new_tokens=length, **options)


model = minigpt.load(workdir)
print(generate_text(model, 'the ', length=50, temperature=0))

# %% [markdown]
# With sampling, another seed is another text.

# %%
for seed in range(3):
  print(generate_text(model, 'the ', length=50, seed=seed))

# %% [markdown]
# ## Inside
#
# The model is a function of its parameters, so every intermediate can be seen: here the
# weights with which the last position of "the sun" looks at each character, by head.

# %%
from minigpt.model.hooks import capture

_, seen = capture(minigpt.gpt, '*.attn.weights')(
  ids[None], model.params, model.config
)
for head, weights in enumerate(seen['blocks.0.attn.weights'][0]):
  looks = zip('the sun', weights[-1].numpy(), strict=True)
  print(head, '  '.join(f'{c!r} {w:.1f}' for c, w in looks))
