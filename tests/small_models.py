"""Random character models, in the form that `loading.load` returns."""

LETTERS = '\n abcdefghij'


def random_model(characters, seed, **shape):
  """Returns a model with two heads whose vocabulary is these characters."""
  from minigpt import tokenizers
  from minigpt.checkpoints.loading import LoadedModel
  from minigpt.config import GPTConfig
  from minigpt.model.params import init_params

  tokenizer = tokenizers.build('char', characters)
  config = GPTConfig(
    vocab_size=tokenizer.vocab_size, n_heads=2, init_std=0.5, **shape
  )
  return LoadedModel(config, init_params(config, seed), tokenizer)


def letters():
  """Returns a model of 12 characters, including line feed; context 20."""
  return random_model(LETTERS, seed=1, context_length=20, emb_dim=8, n_layers=1)
