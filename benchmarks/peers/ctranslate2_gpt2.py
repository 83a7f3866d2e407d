"""CTranslate2's GPT-2, from a model file written here."""

import tempfile

import ctranslate2
import harness
from ctranslate2.specs import Activation, TransformerDecoderModelSpec


def spec(a):
  """The model as CTranslate2's converter would fill it."""
  made = TransformerDecoderModelSpec.from_config(
    a.layers, a.heads, pre_norm=True, activation=Activation.GELUTanh
  )
  w = harness.weights(a)
  decoder = made.decoder
  decoder.scale_embeddings = False
  decoder.embeddings.weight = decoder.projection.weight = w['wte.weight']
  decoder.position_encodings.encodings = w['wpe.weight']
  _norm(decoder.layer_norm, w, 'ln_f')
  for i, layer in enumerate(decoder.layer):
    attention, h = layer.self_attention, f'h.{i}'
    _norm(attention.layer_norm, w, f'{h}.ln_1')
    _linear(attention.linear[0], w, f'{h}.attn.c_attn')
    _linear(attention.linear[1], w, f'{h}.attn.c_proj')
    _norm(layer.ffn.layer_norm, w, f'{h}.ln_2')
    _linear(layer.ffn.linear_0, w, f'{h}.mlp.c_fc')
    _linear(layer.ffn.linear_1, w, f'{h}.mlp.c_proj')
  names = _names(a)
  made.register_vocabulary(names)
  made.config.unk_token = made.config.bos_token = names[0]
  made.config.eos_token = names[0]
  return made


def _names(a):
  return [f't{i}' for i in range(a.vocab)]


def _norm(layer, w, name):
  layer.gamma, layer.beta = w[f'{name}.weight'], w[f'{name}.bias']


def _linear(layer, w, name):
  layer.weight, layer.bias = w[f'{name}.weight'].T, w[f'{name}.bias']


def _format(a):
  asked = a.weights if a.weights != 'float32' else a.compute_dtype
  known = ctranslate2.get_supported_compute_types('cpu')
  if asked not in known:
    raise harness.UnableError(f'CTranslate2 has no {asked} for this processor')
  return asked


def generator(a):
  model = spec(a)
  model.validate()
  model.optimize(quantization=_format(a))
  with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    return ctranslate2.Generator(
      folder,
      compute_type=_format(a),
      inter_threads=1,
      intra_threads=harness.N_THREADS,
    )


def generate(a):
  """What `harness.decode_work` takes."""
  model = generator(a)
  names = _names(a)
  prompts = [[names[i] for i in row] for row in harness.prompts(a)]

  def call(n):
    rows = model.generate_batch(
      prompts,
      max_batch_size=len(prompts),
      beam_size=1,
      min_length=n,
      max_length=n,
      include_prompt_in_result=False,
    )
    return [row.sequences_ids[0] for row in rows]

  return call


def prefill(a):
  """It keeps logits to itself: the most likely token after each prompt."""
  call = generate(a)
  return harness.prefill_work(a, lambda: call(1))


def decode(a):
  return harness.decode_work(a, generate(a))


if __name__ == '__main__':
  harness.run('CTranslate2', prefill=prefill, decode=decode)
