"""llama.cpp's GPT-2, from a GGUF file written here."""

import pathlib
import tempfile

import gguf
import harness
import llama_cpp
import numpy as np

_FORMATS = {
  'float32': gguf.GGMLQuantizationType.F32,
  'bfloat16': gguf.GGMLQuantizationType.BF16,
  'int8': gguf.GGMLQuantizationType.Q8_0,
}
_NAMES = {
  'wte': 'token_embd',
  'wpe': 'position_embd',
  'ln_f': 'output_norm',
  'ln_1': 'attn_norm',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  'ln_2': 'ffn_norm',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
}


def write_gguf(a, path):
  """As llama.cpp's converter does, matrices [out, in]; it has no tokenizer."""
  writer = gguf.GGUFWriter(path, 'gpt2')
  writer.add_block_count(a.layers)
  writer.add_context_length(a.context_length)
  writer.add_embedding_length(a.width)
  writer.add_feed_forward_length(4 * a.width)
  writer.add_head_count(a.heads)
  writer.add_layer_norm_eps(1e-5)
  writer.add_tokenizer_model('no_vocab')
  writer.add_vocab_size(a.vocab)
  kept = a.weights if a.weights != 'float32' else a.compute_dtype
  for name, w in harness.weights(a).items():
    name, part = name.rsplit('.', 1)
    prefix = ''
    if name.startswith('h.'):
      _, i, name = name.split('.', 2)
      prefix = f'blk.{i}.'
    if name.startswith(('attn', 'mlp')) and part == 'weight':
      w = np.ascontiguousarray(w.T)
    # Its positions are added as they are, so they must be float32.
    is_matrix = w.ndim > 1 and name != 'wpe'
    form = _FORMATS[kept if is_matrix else 'float32']
    writer.add_tensor(
      f'{prefix}{_NAMES[name]}.{part}',
      gguf.quants.quantize(w, form),
      raw_dtype=form,
    )
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


class Session:
  """A model, and a cache with room for prompts and answers."""

  def __init__(self, a):
    llama_cpp.llama_backend_init()
    how = llama_cpp.llama_model_default_params()
    how.use_extra_bufts = False  # q8_0 crashes on some processors with them.
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, 'model.gguf')
      write_gguf(a, path)
      file = str(path).encode()
      self.model = llama_cpp.llama_model_load_from_file(file, how)
    n_slots = a.prompt_length + a.new_tokens + 1
    how = llama_cpp.llama_context_default_params()
    how.n_ctx = a.batch_size * (-(-n_slots // 256) * 256)
    how.n_batch = how.n_ubatch = a.batch_size * a.prompt_length
    how.n_seq_max = a.batch_size
    how.n_threads = how.n_threads_batch = harness.N_THREADS
    self.context = llama_cpp.llama_init_from_model(self.model, how)
    self.batch = llama_cpp.llama_batch_init(how.n_batch, 0, 1)
    self.n_vocab = a.vocab

  def forget(self):
    memory = llama_cpp.llama_get_memory(self.context)
    llama_cpp.llama_memory_clear(memory, True)

  def forward(self, tokens, position):
    """Logits [B, V] after tokens [B, T] at `position`..."""
    n_rows, n_tokens = tokens.shape
    batch = self.batch
    batch.n_tokens = tokens.size
    for i, token in enumerate(tokens.ravel().tolist()):
      row, offset = divmod(i, n_tokens)
      batch.token[i], batch.pos[i] = token, position + offset
      batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
      batch.logits[i] = offset == n_tokens - 1
    if code := llama_cpp.llama_decode(self.context, batch):
      raise RuntimeError(f'llama_decode returned {code}')
    return np.stack(
      [
        np.ctypeslib.as_array(
          llama_cpp.llama_get_logits_ith(
            self.context, (row + 1) * n_tokens - 1
          ),
          (self.n_vocab,),
        )
        for row in range(n_rows)
      ]
    )


def prefill(a):
  session, prompts = Session(a), harness.prompts(a)

  def score():
    session.forget()
    return session.forward(prompts, 0)

  return harness.prefill_work(a, score)


def decode(a):
  session, prompts = Session(a), harness.prompts(a)

  def generate(n):
    session.forget()
    logits = session.forward(prompts, 0)
    tokens = [logits.argmax(-1)]
    for i in range(n - 1):
      logits = session.forward(tokens[-1][:, None], a.prompt_length + i)
      tokens.append(logits.argmax(-1))
    return np.stack(tokens, 1)

  return harness.decode_work(a, generate)


if __name__ == '__main__':
  with harness.quiet():
    harness.run('llama.cpp', prefill=prefill, decode=decode)
