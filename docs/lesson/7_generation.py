"""Generation: one token after another, with a cache for the past."""

import quiet  # noqa: F401, I001

import tempfile

import drawing
import tensorflow as tf

from minigpt.generation.sampling import make_sampling, sample
from minigpt.model.kv_cache import cached_gpt, empty_caches
from minigpt.model.transformer import gpt, unembed
from minigpt.training.metrics import say_nothing
from minigpt.training.run_setup import open_run

with (
  tempfile.TemporaryDirectory() as folder,
  open_run(folder, preset='mini', say=say_nothing) as run,
):
  run.train()
model, config, tokenizer = run.model, run.config.model, run.data.tokenizer

# Without a cache: read the whole text again for each new token.
ids = tokenizer.encode('the stars').tolist()
for _ in range(12):
  logits = gpt(tf.constant([ids]), model.params, config)
  ids.append(int(tf.argmax(logits[0, -1])))
print('without a cache:', repr(tokenizer.decode(ids)))

# With a cache: keys and values are kept, and a step reads only new tokens.
caches, position = empty_caches(1, 32, config), 0
new, said = tokenizer.encode('the stars').tolist(), 'the stars'
for _ in range(12):
  hidden, caches = cached_gpt(
    tf.constant([new]), model.params, config, caches, tf.constant([position])
  )
  position += len(new)
  logits = unembed(hidden[:, -1], model.params, config)
  new = [int(tf.argmax(logits[0]))]
  said += tokenizer.decode(new)
print('with a cache:   ', repr(said))
print(f'tokens read: {sum(range(9, 21))} without, {position} with')

# Eight samples each after "the ", more and more varied.
logits = gpt(tf.constant([tokenizer.encode('the ')]), model.params, config)
for temperature in (0.0, 1.0, 3.0):
  options = make_sampling(8, temperature=temperature, seed=tf.range(8))
  rows = tf.repeat(logits[:, -1], 8, axis=0)
  sampled = sample(rows, options, tf.zeros([8], tf.int32))
  print(f'temperature {temperature}:', repr(tokenizer.decode(sampled)))

if drawing.path():
  figure, panels = drawing.new(8, 2.4, 3)
  letters = tokenizer.characters.replace(' ', '_')
  for panel, temperature in zip(panels, (0.5, 1.0, 3.0), strict=True):
    chances = tf.nn.softmax(logits[0, -1] / temperature)
    panel.bar(range(len(letters)), chances)
    panel.set_xticks(range(len(letters)), letters, fontsize=8)
    panel.set_ylim(0, 1)
    panel.set_title(f'after "the ", temperature {temperature}', fontsize=9)
  drawing.save(figure)
