"""Models in Hugging Face and OpenAI formats, compared with `transformers`."""

import errno
import json
import os
import pathlib
import shutil
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from weight_files import (
  WEIGHTS,
  assert_same_bytes,
  leaves,
  tensors_of,
  write,
)

from minigpt.checkpoints import huggingface, loading
from minigpt.config import GPTConfig
from minigpt.errors import InputError
from minigpt.generation import decode, sampling
from minigpt.model import params
from minigpt.model.transformer import gpt, hidden_states
from minigpt.tokenizers import build, hf_files, hf_tokenizer

safetensors = pytest.importorskip('safetensors.numpy')

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
NAMES = ('gpt2-wide', 'gpt2-untied', 'gpt2-deep')


def expected(name):
  return np.load(GOLDEN / name / 'expected.npz')


def assert_close(logits, wanted):
  """Compares to 1e-4 of the largest logit, as small logits are inexact."""
  assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.fixture
def model(tmp_path):
  """A copy of the smallest golden model, to be altered."""
  return pathlib.Path(shutil.copytree(GOLDEN / 'gpt2-deep', tmp_path / 'model'))


def alter_config(path, **fields):
  file = path / 'config.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def alter_tensors(path, change):
  safetensors.save_file(change(tensors_of(path)), path / WEIGHTS)


# Results of the model.


@pytest.mark.parametrize('name', NAMES)
def test_logits_are_those_of_transformers(name):
  config, weights = huggingface.read(GOLDEN / name)
  want = expected(name)
  assert_close(gpt(want['inputs'], weights, config).numpy(), want['logits'])


@pytest.mark.parametrize('name', NAMES)
def test_greedy_tokens_are_those_of_transformers(name):
  config, weights = huggingface.read(GOLDEN / name)
  tokens = expected(name)['greedy']
  n_rows, n_new = len(tokens), 64

  @tf.function(autograph=False)
  def generate(prompts):
    greedy = sampling.greedy_sampling(n_rows)
    length = tf.fill([n_rows], prompts.shape[1])
    state = decode.start(prompts, length, weights, config, tokens.shape[1])
    return decode.generate(state, n_new, n_new, greedy, weights, config)[1]

  drawn = generate(tf.constant(tokens[:, :-n_new]))
  np.testing.assert_array_equal(drawn.tokens, tokens[:, -n_new:])


# Round trips.


@pytest.mark.parametrize('name', NAMES)
def test_written_again_every_tensor_is_the_same_bytes(name, tmp_path):
  config, weights = huggingface.read(GOLDEN / name)
  write(tmp_path / 'new', config, weights)
  assert_same_bytes(tensors_of(tmp_path / 'new'), tensors_of(GOLDEN / name))
  again, weights_again = huggingface.read(tmp_path / 'new')
  assert again == config
  assert_same_bytes(leaves(weights_again), leaves(weights))


def without_prefix(tensors):
  return {k.removeprefix('transformer.'): v for k, v in tensors.items()}


def with_head(tensors):
  return tensors | {'lm_head.weight': tensors['transformer.wte.weight']}


def with_masks(tensors):
  mask = np.tril(np.ones([1, 1, 68, 68], bool))
  return tensors | {
    'transformer.h.0.attn.bias': mask,
    'transformer.h.4.attn.masked_bias': np.array(-1e4, np.float32),
  }


@pytest.mark.parametrize('change', [without_prefix, with_head, with_masks])
def test_spellings_of_the_same_weights(model, change):
  config, weights = huggingface.read(model)
  alter_tensors(model, change)
  assert huggingface.read(model)[0] == config
  assert_same_bytes(leaves(huggingface.read(model)[1]), leaves(weights))


def test_shards(model):
  wanted = leaves(huggingface.read(model)[1])
  names = sorted(tensors := tensors_of(model))
  weight_map = {}
  for i, part in enumerate((names[::2], names[1::2])):
    safetensors.save_file({k: tensors[k] for k in part}, model / f'{i}.shard')
    weight_map |= dict.fromkeys(part, f'{i}.shard')
  (model / WEIGHTS).unlink()
  (model / huggingface.INDEX).write_text(json.dumps({'weight_map': weight_map}))
  assert_same_bytes(leaves(huggingface.read(model)[1]), wanted)


@pytest.mark.parametrize('dtype', [np.float16, ml_dtypes.bfloat16])
def test_halves_become_float32_without_loss(model, dtype):
  wanted = {
    k: v.astype(dtype).astype(np.float32)
    for k, v in leaves(huggingface.read(model)[1]).items()
  }
  alter_tensors(
    model, lambda tensors: {k: v.astype(dtype) for k, v in tensors.items()}
  )
  assert_same_bytes(leaves(huggingface.read(model)[1]), wanted)


def test_a_head_that_differs_is_a_head_whatever_the_config_says(model):
  head = np.random.default_rng(0).normal(size=[40, 8]).astype(np.float32)
  alter_tensors(model, lambda tensors: tensors | {'lm_head.weight': head})
  config, weights = huggingface.read(model)
  assert not config.tie_embeddings
  np.testing.assert_array_equal(weights.head, head)


def test_scaling_before_the_sum_is_the_same_attention(model):
  wanted = huggingface.read(model)
  alter_config(model, reorder_and_upcast_attn=True)
  found = huggingface.read(model)
  assert found[0] == wanted[0]
  assert_same_bytes(leaves(found[1]), leaves(wanted[1]))


def test_config_fields_land_where_they_belong(model):
  config = huggingface.read(GOLDEN / 'gpt2-untied')[0]
  assert config == GPTConfig(
    vocab_size=50,
    context_length=80,
    emb_dim=24,
    n_heads=3,
    n_layers=1,
    drop_rate=0.1,
    qkv_bias=True,
    bias=True,
    tie_embeddings=False,
    mlp_ratio=2,
  )
  alter_config(model, resid_pdrop=0.25)
  assert huggingface.read(model)[0].drop_rate == 0.25


def small_config(**fields):
  return GPTConfig(
    **dict(vocab_size=11, context_length=8, emb_dim=6, n_heads=2, n_layers=2)
    | fields
  )


def test_absent_biases_are_written_as_zeros_and_change_no_logit(tmp_path):
  config = small_config(bias=False, mlp_ratio=3)
  weights = params.init_params(config, seed=1)
  write(tmp_path / 'new', config, weights)
  again, weights_again = huggingface.read(tmp_path / 'new')
  assert (again.qkv_bias, again.bias, again.mlp_ratio) == (True, True, 3)
  assert not weights_again.blocks[1].attn.c_attn.b.any()
  tokens = np.arange(8)[None]
  np.testing.assert_array_equal(
    gpt(tokens, weights_again, again), gpt(tokens, weights, config)
  )


# Padding.


def test_padding_is_kept_and_never_scored(tmp_path):
  config = small_config(qkv_bias=True, vocab_padding=5)
  weights = params.init_params(config)
  tokens = np.array([[3, 1, 10]])
  full = tf.matmul(
    hidden_states(tokens, weights, config), weights.wte, transpose_b=True
  )
  assert full.shape == [1, 3, 16]
  np.testing.assert_array_equal(gpt(tokens, weights, config), full[..., :11])
  write(tmp_path / 'new', config, weights)
  described = json.loads((tmp_path / 'new/config.json').read_text())
  generation = (tmp_path / 'new/generation_config.json').read_text()
  assert described['vocab_size'] == 16
  assert json.loads(generation)['suppress_tokens'] == [11, 12, 13, 14, 15]
  again, weights_again = huggingface.read(tmp_path / 'new')
  assert again.vocab_padding == 5
  assert_same_bytes(leaves(weights_again), leaves(weights))


def test_a_vocabulary_of_50304_is_that_of_gpt2_padded(tmp_path):
  config = small_config(vocab_size=50304, emb_dim=2, n_heads=1)
  path = tmp_path / 'new'
  write(path, config, params.init_params(config))
  # As config.json declares.
  assert huggingface.read(path)[0].vocab_padding == 0
  described = json.loads((path / 'config.json').read_text())
  del described['vocab_padding']
  (path / 'config.json').write_text(json.dumps(described))
  found = huggingface.read(path)[0]
  assert (found.vocab_size, found.vocab_padding) == (50257, 47)


@pytest.mark.parametrize(
  'files',
  [(), ('vocab.json', 'added_tokens.json'), ('tokenizer.json',)],
)
def test_gpt2_with_tokens_added_is_read(tmp_path, files):
  try:
    gpt2 = build('gpt2', '')
  except InputError as error:
    pytest.skip(str(error))
  more = {'[PAD]': gpt2.vocab_size}
  config = small_config(vocab_size=50258, emb_dim=2, n_heads=1)
  path = tmp_path / 'new'
  write(path, config, params.init_params(config))
  (path / huggingface.TOKENIZER).unlink()
  described = json.loads((path / 'config.json').read_text())
  del described['vocab_padding']
  ids = {'<|endoftext|>': gpt2.end_of_text, **more}
  content = {
    'config.json': described,
    'vocab.json': hf_files.vocabulary(gpt2.tokens),
    'added_tokens.json': more,
    'tokenizer.json': hf_tokenizer.describe([*gpt2.tokens, b'[PAD]'], ids),
  }
  for name in ('config.json', *files):
    (path / name).write_text(json.dumps(content[name]))
  found = loading.load(path)
  wanted = (50258, 0) if 'tokenizer.json' in files else (50257, 1)
  assert (found.config.vocab_size, found.config.vocab_padding) == wanted
  text = 'To be, or not'
  assert found.tokenizer.encode(text).tolist() == gpt2.encode(text).tolist()
  assert found.weights.wte.shape == (50258, 2)
  assert len(found.tokenizer.encode('[PAD]')) == (1 if wanted[1] == 0 else 4)


@pytest.mark.parametrize(
  'files',
  [
    {'vocab.json': {'a': 0, 'b': 35}, 'added_tokens.json': {'<pad>': 36}},
    {
      'tokenizer.json': {
        'model': {'vocab': {'a': 0, 'b': 35}},
        'added_tokens': [{'content': '<pad>', 'id': 36}],
      }
    },
  ],
)
def test_the_tokenizer_says_which_rows_are_padding(model, files):
  for name, content in files.items():
    (model / name).write_text(json.dumps(content))
  config = huggingface.read(model)[0]
  assert (config.vocab_size, config.vocab_padding) == (37, 3)


def test_a_vocabulary_of_ones_own_goes_out_and_comes_in(tmp_path):
  text = pathlib.Path(__file__).read_text()
  tokenizer = build('bpe', text, 300, ['<|user|>'])
  config = small_config(vocab_size=300)
  path = tmp_path / 'new'
  huggingface.write(path, config, params.init_params(config), tokenizer)
  described = json.loads((path / 'config.json').read_text())
  assert described['eos_token_id'] == tokenizer.end_of_text == 298
  assert (
    '"eos_token": "<|endoftext|>"'
    in (path / 'tokenizer_config.json').read_text()
  )
  (path / huggingface.TOKENIZER).unlink()  # As in another author's model.
  found = loading.load(path).tokenizer
  assert found.to_json() == tokenizer.to_json()


# OpenAI's checkpoint.


def truncate(file, n=1):
  file.write_bytes(file.read_bytes()[:-n])


# Bad input.


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'model_type': 'llama'}, "model_type is 'llama'"),
    ({'model_type': None}, 'model_type is None'),
    ({'activation_function': 'relu'}, "activation_function is 'relu'"),
    ({'layer_norm_epsilon': 1e-6}, 'layer_norm_epsilon is 1e-06'),
    ({'scale_attn_weights': False}, 'scale_attn_weights'),
    ({'scale_attn_by_inverse_layer_idx': True}, 'by_inverse_layer_idx'),
    ({'add_cross_attention': True}, 'add_cross_attention'),
    ({'n_inner': 20}, 'n_inner=20 is no multiple of n_embd=8'),
    ({'n_inner': 16}, r'c_fc.weight has shape \[8, 32\]; .* \[8, 16\]'),
    ({'n_head': 3}, 'emb_dim=8 is not divisible by n_heads=3'),
    ({'n_layer': 4}, 'does not have the tensor h.4.attn.c_attn.bias'),
    ({'n_layer': 10**12}, 'n_layer is 1000000000000'),
    ({'n_layer': 10**9}, '64 tensors are too few for 1000000000 layers'),
    ({'n_embd': '8'}, "n_embd is '8'"),
    ({'n_embd': 0}, 'n_embd is 0'),
    ({'n_positions': True}, 'n_positions is True'),
    ({'vocab_size': 41}, r'wte.weight has shape \[40, 8\]'),
    ({'vocab_padding': 40}, '0 tokens do not fit'),
    ({'resid_pdrop': 'a'}, 'config.json: '),
    ({'tie_word_embeddings': False}, 'lacks the tensor lm_head.weight'),
  ],
)
def test_configs_that_are_refused(model, fields, message):
  alter_config(model, **fields)
  with pytest.raises(InputError, match=message):
    huggingface.read(model)


def without_wpe(tensors):
  return {k: v for k, v in tensors.items() if k != 'transformer.wpe.weight'}


def with_scores(tensors):
  return tensors | {'score.weight': np.zeros([2, 8], np.float32)}


def twice(tensors):
  return tensors | {'wpe.weight': tensors['transformer.wpe.weight']}


def transposed(tensors):
  name = 'transformer.h.0.mlp.c_fc.weight'
  return tensors | {name: tensors[name].T.copy()}


def quantized(tensors):
  return tensors | {'transformer.wte.weight': np.zeros([40, 8], np.int8)}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (without_wpe, 'lacks the tensor wpe.weight'),
    (with_scores, 'does not have the tensor score.weight'),
    (twice, 'wpe.weight for the second time'),
    (transposed, r'c_fc.weight has shape \[32, 8\]; .* \[8, 32\]'),
    (quantized, 'wte.weight is I8'),
  ],
)
def test_tensors_that_are_refused(model, change, message):
  alter_tensors(model, change)
  with pytest.raises(InputError, match=message):
    huggingface.read(model)


def header(fields, length=None):
  text = json.dumps(fields).encode()
  return struct.pack('<Q', len(text) if length is None else length) + text


TERABYTES = {
  'wte.weight': {
    'dtype': 'F32',
    'shape': [2**20, 2**20],
    'data_offsets': [0, 2**42],
  }
}


@pytest.mark.parametrize(
  'content', [b'', b'text', header(TERABYTES), header({}, length=2**62)]
)
def test_files_that_are_no_safetensors(model, content):
  (model / WEIGHTS).write_bytes(content)
  with pytest.raises(InputError, match='damaged or no safetensors'):
    huggingface.read(model)


def test_what_the_system_does_not_let_be_read_is_no_damage(model, monkeypatch):
  read = pathlib.Path.open

  def refuse(path, *args, **kwargs):
    if path.name == WEIGHTS:
      raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return read(path, *args, **kwargs)

  monkeypatch.setattr(pathlib.Path, 'open', refuse)
  with pytest.raises(InputError, match=r'cannot be read .Too many open files'):
    huggingface.read(model)


def test_a_truncated_file(model):
  truncate(model / WEIGHTS)
  with pytest.raises(InputError, match='damaged or no safetensors'):
    huggingface.read(model)


@pytest.mark.parametrize('shard', ['gone', '../model/other.safetensors'])
def test_shards_that_are_not_there(model, shard):
  (model / huggingface.INDEX).write_text(
    json.dumps({'weight_map': {'wte': shard}})
  )
  (model / WEIGHTS).rename(model / 'other.safetensors')
  with pytest.raises(InputError, match='there is no shard'):
    huggingface.read(model)


def test_a_pickle_is_refused_with_the_way_out(model):
  (model / WEIGHTS).rename(model / 'pytorch_model.bin')
  with pytest.raises(InputError, match=r'pickle .* call save_pretrained'):
    huggingface.read(model)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('{', 'is not JSON'),
    ('[' * 100000, 'is not JSON'),
    ('[]', 'is not a JSON object'),
    ('{}', 'model_type is None'),
  ],
)
def test_configs_that_are_none(model, content, message):
  (model / 'config.json').write_text(content)
  with pytest.raises(InputError, match=message):
    huggingface.read(model)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('vocab.json', {'a': 40}, '41 tokens do not fit'),
    ('vocab.json', {'a': 'b'}, 'no table of tokens'),
    ('tokenizer.json', {'model': {'vocab': [['a', -1.5]]}}, 'no table'),
    ('tokenizer.json', {'version': 1}, 'no table of tokens'),
  ],
)
def test_tokenizers_that_do_not_fit(model, name, content, message):
  (model / name).write_text(json.dumps(content))
  with pytest.raises(InputError, match=message):
    huggingface.read(model)


def test_nan_is_read_with_a_warning(model, caplog):
  tensors = tensors_of(model)
  tensors['transformer.h.2.ln_1.bias'][3] = np.nan
  safetensors.save_file(tensors, model / WEIGHTS)
  weights = huggingface.read(model)[1]
  assert np.isnan(weights.blocks[2].ln_1.b[3])
  assert 'h.2.ln_1.bias holds NaN' in caplog.text
  assert len(caplog.records) == 1


def test_without_safetensors_one_line_says_what_to_install(model, monkeypatch):
  monkeypatch.setitem(sys.modules, 'safetensors.numpy', None)
  with pytest.raises(InputError, match='pip install'):
    huggingface.read(model)


def test_nothing_is_written_over(model, tmp_path):
  before = (model / WEIGHTS).read_bytes()
  (tmp_path / 'file').write_text('')
  for target in (model, tmp_path / 'file'):
    with pytest.raises(InputError, match='exists already'):
      write(target, *huggingface.read(model))
  assert (model / WEIGHTS).read_bytes() == before


def test_a_write_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
  def no_space(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(safetensors, 'save_file', no_space)
  with pytest.raises(InputError, match='No space left on device'):
    write(tmp_path / 'new', *huggingface.read(model))
  assert [p.name for p in tmp_path.iterdir()] == ['model']


# Comparisons with `transformers`, if it is installed.


@pytest.fixture(scope='module')
def transformers():
  pytest.importorskip('torch', reason='needs torch to compare with')
  return pytest.importorskip(
    'transformers', reason='needs transformers to compare with'
  )


def logits_of(transformers, path, tokens):
  import torch

  model = transformers.GPT2LMHeadModel.from_pretrained(path)
  assert model.dtype == torch.float32
  with torch.no_grad():
    return model(torch.tensor(tokens)).logits.numpy()


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'bias': False},
    {'mlp_ratio': 2, 'tie_embeddings': False},
    {'vocab_padding': 5},
  ],
)
def test_transformers_computes_what_was_written(transformers, tmp_path, fields):
  config = small_config(**fields)
  weights = params.init_params(config, seed=3)
  write(tmp_path / 'new', config, weights)
  tokens = np.arange(8)[None]
  found = logits_of(transformers, tmp_path / 'new', tokens)
  assert_close(found[..., :11], gpt(tokens, weights, config).numpy())


def test_transformers_never_generates_padding(transformers, tmp_path):
  config = small_config(vocab_padding=5)
  weights = params.init_params(config, seed=3)
  weights.ln_f.b.assign(tf.ones([6]))
  weights.wte.assign(
    tf.concat([weights.wte[:11], tf.ones([5, 6])], axis=0)
  )  # Every padding row outscores every token.
  write(tmp_path / 'new', config, weights)
  import torch

  model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / 'new')
  prompt = torch.tensor([[1, 2]])
  assert model(prompt).logits.argmax(-1).min() >= 11
  drawn = model.generate(prompt, max_new_tokens=6, do_sample=False)
  assert drawn.max() < 11


def test_shards_as_transformers_writes_them(transformers, tmp_path):
  model = transformers.GPT2LMHeadModel.from_pretrained(GOLDEN / 'gpt2-wide')
  model.save_pretrained(tmp_path / 'new', max_shard_size='15KB')
  assert len(list((tmp_path / 'new').glob('*.safetensors'))) > 1
  assert_same_bytes(
    leaves(huggingface.read(tmp_path / 'new')[1]),
    leaves(huggingface.read(GOLDEN / 'gpt2-wide')[1]),
  )
