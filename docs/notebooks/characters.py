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
# This notebook trains a transformer of one block on three sentences, 82 characters in
# all, for ten epochs. It takes seconds on two cores. The [lesson](../lesson/README.md)
# explains each part.

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
# Each distinct character gets an id: its place in the sorted list of characters.

# %%
from minigpt import tokenizers

tokenizer = tokenizers.build('char', SAMPLE)
print(tokenizer.vocab_size, 'characters:', repr(tokenizer.characters))
ids = tokenizer.encode('the sun')
print(ids, '->', repr(tokenizer.decode(ids)))

# %% [markdown]
# ## The model
#
# The preset `mini` has a context of 48 characters, vectors of 64 numbers, two heads and
# one block. `open_run` makes the variables of the model; the summary counts them.

# %%
workdir = tempfile.mkdtemp()
run = open_run(workdir, preset='mini', say=say_nothing)
print(summary(run.model.params, run.config.model))

# %% [markdown]
# ## Training
#
# 34 windows in batches of two make 17 steps an epoch. After each epoch the run computes
# the mean loss in nats, and the accuracy: the share of characters that the model held
# for the most likely. It does so for the training part and for the validation part;
# here both are the same three sentences. A model that knows nothing would have a loss of
# ln 16 = 2.77.


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
# At temperature 0 the model always takes the most likely character. It was trained on
# nothing but these sentences, and has learned them by heart.


# %%
def generate_text(model, prompt, length=50, **options):
  """Returns the prompt and `length` characters after it."""
  return prompt + model.generate(prompt, max_new_tokens=length, **options)


model = minigpt.load(workdir)
print(generate_text(model, 'the ', length=50, temperature=0))

# %% [markdown]
# With sampling, each seed gives a different text.

# %%
for seed in range(3):
  print(generate_text(model, 'the ', length=50, seed=seed))

# %% [markdown]
# ## Inside
#
# The model is a function of its parameters, so every intermediate tensor can be looked
# at. These are the attention weights that the last position of "the sun" gives to each
# character, for each head.

# %%
from minigpt.model.hooks import capture

_, seen = capture(minigpt.gpt, '*.attn.weights')(
  ids[None], model.params, model.config
)
for head, weights in enumerate(seen['blocks.0.attn.weights'][0]):
  looks = zip('the sun', weights[-1].numpy(), strict=True)
  print(head, '  '.join(f'{c!r} {w:.1f}' for c, w in looks))
