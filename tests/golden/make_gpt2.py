"""Writes the golden GPT-2 models of tests/test_hf.py.

Each folder holds a small random model as `transformers` saves it, and
`expected.npz` with what `transformers` computes from it in float32:

  inputs  int32 [B, T]            logits  float32 [B, T, V]
  prompts int32 [B, 4]            greedy  int32 [B, 4 + 64]
  text    int32 [N]               loss    float64 [], at stride 8
  beams, beams_stop   int32 [B, 4, 4 + 16] and `..._scores` float32 [B, 4]:
          four beams without and with the token `stop` as the end
  ruled   int32 [B, 4 + 24], greedy under the rules of `RULES`

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


STRIDE = 8
RULES = dict(
  repetition_penalty=1.5, min_new_tokens=10, sequence_bias={(3,): 2.0}
)


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


def sliding_loss(model: GPT2LMHeadModel, text: torch.Tensor) -> float:
  """Computes the mean loss of a text [N] as in transformers' guide.

  https://huggingface.co/docs/transformers/perplexity
  """
  window, end, total = model.config.n_positions, 0, 0.0
  for start in range(0, len(text), STRIDE):
    n_new = min(start + window, len(text)) - end
    end += n_new
    labels = text[None, start:end].clone()
    labels[:, :-n_new] = -100
    n_scored = (labels[:, 1:] != -100).sum().item()
    total += model(text[None, start:end], labels=labels).loss.item() * n_scored
    if end == len(text):
      return total / (len(text) - 1)


def beams(model: GPT2LMHeadModel, prompts: torch.Tensor, stop: int | None):
  """int32 [B, 4, T] sequences, float32 [B, 4] scores."""
  found = model.generate(
    prompts,
    attention_mask=torch.ones_like(prompts),
    max_new_tokens=16,
    do_sample=False,
    num_beams=4,
    num_return_sequences=4,
    eos_token_id=stop,
    pad_token_id=stop,
    return_dict_in_generate=True,
    output_scores=True,
  )
  shape = [len(prompts), 4]
  return (
    found.sequences.numpy().astype(np.int32).reshape(*shape, -1),
    found.sequences_scores.numpy().reshape(shape),
  )


def ruled(model: GPT2LMHeadModel, prompts: torch.Tensor, stop: int):
  return model.generate(
    prompts,
    attention_mask=torch.ones_like(prompts),
    max_new_tokens=24,
    do_sample=False,
    eos_token_id=stop,
    pad_token_id=stop,
    **RULES,
  )


def is_telling(model: GPT2LMHeadModel, tokens: torch.Tensor) -> bool:
  """Tells whether tokens are varied, and no choice depends on rounding."""
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
  text = torch.randint(shape['vocab_size'], [300])
  free, free_scores = beams(model, prompts, stop=None)
  stop = int(free[0, 0, 4 + 6])
  stopped, stopped_scores = beams(model, prompts, stop)
  np.savez_compressed(
    folder / 'expected.npz',
    inputs=inputs.numpy().astype(np.int32),
    logits=model(inputs).logits.numpy(),
    prompts=prompts.numpy().astype(np.int32),
    greedy=tokens.numpy().astype(np.int32),
    text=text.numpy().astype(np.int32),
    loss=sliding_loss(model, text),
    beams=free,
    beams_scores=free_scores,
    stop=stop,
    beams_stop=stopped,
    beams_stop_scores=stopped_scores,
    ruled=ruled(model, prompts, stop).numpy().astype(np.int32),
  )


if __name__ == '__main__':
  for name, shape in SHAPES.items():
    write(pathlib.Path(__file__).parent / name, shape)
