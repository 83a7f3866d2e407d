"""Writes the golden GPT-2 models of tests/test_hf.py.

Each folder holds a small random model as `transformers` saves it, and
`expected.npz` with what `transformers` computes from it in float32:

  inputs  int32 [B, T]            logits  float32 [B, T, V]
  prompts int32 [B, 4]            greedy  int32 [B, 4 + 64]

Run it in an environment of its own, from the root of the repository:

  pip install torch transformers numpy
  python tests/golden/make_gpt2.py
"""

import itertools
import pathlib

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

SHAPES = {
  'gpt2-wide': dict(
    vocab_size=61, n_positions=72, n_embd=16, n_head=2, n_layer=2
  ),
  'gpt2-untied': dict(
    vocab_size=50,
    n_positions=80,
    n_embd=24,
    n_head=3,
    n_layer=1,
    n_inner=48,
    tie_word_embeddings=False,
  ),
  'gpt2-deep': dict(
    vocab_size=40, n_positions=68, n_embd=8, n_head=1, n_layer=5
  ),
}


def random_model(seed: int, **shape) -> GPT2LMHeadModel:
  """Every bias and gain differs, so that no two tensors can be swapped."""
  torch.manual_seed(seed)
  config = GPT2Config(bos_token_id=None, eos_token_id=None, **shape)
  model = GPT2LMHeadModel(config).eval()
  for name, p in model.named_parameters():
    is_gain = '.ln_' in name and name.endswith('weight')
    # Strong positions keep a small model from repeating one token.
    p.normal_(1.0 if is_gain else 0.0, 1.0 if 'wpe' in name else 0.3)
  return model


def greedy(model: GPT2LMHeadModel, prompts: torch.Tensor) -> torch.Tensor:
  return model.generate(
    prompts,
    attention_mask=torch.ones_like(prompts),
    max_new_tokens=64,
    do_sample=False,
  )


def is_telling(model: GPT2LMHeadModel, tokens: torch.Tensor) -> bool:
  """Varied, and no choice so close that rounding could turn it."""
  best = model(tokens[:, :-1]).logits[:, 3:].topk(2).values
  margin = (best[..., 0] - best[..., 1]).min().item()
  distinct = min(len(set(row[4:].tolist())) for row in tokens)
  apart = bool((tokens[0, -16:] != tokens[1, -16:]).any())
  return margin > 2e-3 and distinct >= 8 and apart


@torch.no_grad()
def write(folder: pathlib.Path, shape: dict) -> None:
  for seed in itertools.count():
    model = random_model(seed, **shape)
    inputs = torch.randint(shape['vocab_size'], [3, 20])
    prompts = torch.randint(shape['vocab_size'], [2, 4])
    tokens = greedy(model, prompts)
    if is_telling(model, tokens):
      break
  model.save_pretrained(folder)
  np.savez_compressed(
    folder / 'expected.npz',
    inputs=inputs.numpy().astype(np.int32),
    logits=model(inputs).logits.numpy(),
    prompts=prompts.numpy().astype(np.int32),
    greedy=tokens.numpy().astype(np.int32),
  )


if __name__ == '__main__':
  for name, shape in SHAPES.items():
    write(pathlib.Path(__file__).parent / name, shape)
