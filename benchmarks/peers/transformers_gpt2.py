"""Hugging Face Transformers' GPT-2 on PyTorch, eager or with torch.compile."""

import contextlib

import harness
import torch
from transformers import GPT2Config, GPT2LMHeadModel


def build(a):
  config = GPT2Config(
    vocab_size=a.vocab,
    n_positions=a.context_length,
    n_embd=a.width,
    n_layer=a.layers,
    n_head=a.heads,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=None,
    eos_token_id=None,
  )
  model = GPT2LMHeadModel(config)
  weights = {
    name: torch.from_numpy(w) for name, w in harness.weights(a).items()
  }
  model.transformer.load_state_dict(weights)
  return model


def prepared(a):
  torch.set_num_threads(harness.N_THREADS)
  torch.set_float32_matmul_precision('high')  # on a GPU, as XLA does
  if a.weights == 'int8':
    raise harness.UnableError('Transformers alone has no int8 for CPUs')
  model = build(a).to(a.device)
  return model if a.weights == 'float32' else model.to(torch.bfloat16)


def precision(a):
  if a.compute_dtype == 'float32' or a.weights == 'bfloat16':
    return contextlib.nullcontext()
  return torch.autocast(a.device, torch.bfloat16)


def train(a):
  """Cross entropy, clipping at norm 1, AdamW."""
  model = prepared(a).train()
  forward = torch.compile(model) if a.compile else model
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
  )
  windows = torch.from_numpy(harness.windows(a)).long().to(a.device)

  def step():
    with precision(a):
      logits = forward(windows[:, :-1]).logits
      loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), windows[:, 1:].flatten()
      )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()

  return harness.train_work(a, step)


def prefill(a):
  model = prepared(a).eval()
  forward = torch.compile(model) if a.compile else model
  prompts = torch.from_numpy(harness.prompts(a)).long().to(a.device)

  @torch.inference_mode()
  def score():
    with precision(a):
      return forward(prompts, logits_to_keep=1).logits.float().cpu()

  return harness.prefill_work(a, score)


def decode(a):
  """The generate of Transformers, greedy, with its KV cache."""
  model = prepared(a).eval()
  how = {}
  if a.compile:
    # A cache that grows would be compiled again.
    how = {'cache_implementation': 'static'}
    model.forward = torch.compile(model.forward)
  return harness.decode_work(a, generate(a, model, **how))


def generate(a, model, **how):
  """What `harness.decode_work` takes, of a model of Transformers."""
  prompts = torch.from_numpy(harness.prompts(a)).long().to(a.device)

  @torch.inference_mode()
  def call(n):
    with precision(a):
      tokens = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        min_new_tokens=n,
        max_new_tokens=n,
        pad_token_id=0,
        **how,
      )
    return tokens[:, a.prompt_length :].cpu()

  return call


if __name__ == '__main__':
  harness.run('Transformers', train=train, prefill=prefill, decode=decode)
