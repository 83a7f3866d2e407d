"""OpenVINO's GPT-2, converted by optimum-intel from Transformers'."""

import tempfile

import harness
import torch
from optimum.intel import OVModelForCausalLM
from transformers_gpt2 import build, generate


def compiled(a):
  precision = {'float32': 'f32', 'bfloat16': 'bf16'}
  low = 'bfloat16' in (a.weights, a.compute_dtype)
  with tempfile.TemporaryDirectory() as folder:
    build(a).save_pretrained(folder)
    model = OVModelForCausalLM.from_pretrained(
      folder,
      export=True,
      load_in_8bit=a.weights == 'int8',
      ov_config={
        'INFERENCE_PRECISION_HINT': precision['bfloat16' if low else 'float32'],
        'INFERENCE_NUM_THREADS': harness.N_THREADS,
        'PERFORMANCE_HINT': 'LATENCY',
      },
    )
    model.compile()
  return model


def prefill(a):
  """It has no way to leave out the logits of all but the last token."""
  model = compiled(a)
  prompts = torch.from_numpy(harness.prompts(a)).long()
  mask = torch.ones_like(prompts)

  def score():
    return model(prompts, attention_mask=mask).logits[:, -1]

  return harness.prefill_work(a, score)


def decode(a):
  """The generate of Transformers, greedy, with OpenVINO's KV cache."""
  return harness.decode_work(a, generate(a, compiled(a)))


if __name__ == '__main__':
  harness.run('OpenVINO', prefill=prefill, decode=decode)
