"""Runs under JAX's runtime what minigpt has written as StableHLO.

  python benchmarks/pjrt.py DIR --peers_python=peers/bin/python

On whatever device JAX finds; needs neither TensorFlow nor minigpt. What comes
out is held against what the manifest expects, then the call is timed, the
device synchronised. Where an interpreter of the peers' environment is given,
PyTorch with torch.compile does the same work on the same device.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import jax
import numpy as np
import peer_runs
from jax.extend import backend
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jaxlib import xla_client

_WHAT = {'step': 'train', 'prefill': 'prefill', 'token': 'decode'}


class Program:
  """A function of the manifest, compiled, with its arguments on the device."""

  def __init__(self, folder, function):
    self.function = function
    self.arguments = {
      a['name']: jax.device_put(_array(folder, a))
      for a in function['arguments']
    }
    self.executable = compiled(folder, function)

  def __call__(self, **other):
    """Results by name; those named as arguments take their place."""
    given = [(self.arguments | other)[name] for name in self.arguments]
    results = self.executable.execute_sharded(given)
    arrays = results.disassemble_into_single_device_arrays()
    names = [result['name'] for result in self.function['results']]
    found = {name: array for name, [array] in zip(names, arrays, strict=True)}
    jax.block_until_ready(found)
    self.arguments |= {n: found[n] for n in state(self.function)}
    return found


def state(function):
  """What a step takes and hands back: the index of each as a result."""
  arguments = {a['name'] for a in function['arguments']}
  results = [result['name'] for result in function['results']]
  return {n: i for i, n in enumerate(results) if n in arguments}


def compiled(folder, function):
  """The artifact for the first device; the state's memory is used again."""
  client = backend.get_backend()
  devices = client.local_devices()[:1]
  artifact = (folder / function['file']).read_bytes()
  with ir.Context() as context, ir.Location.unknown():
    stablehlo.register_dialect(context)
    module = stablehlo.deserialize_portable_artifact(context, artifact)
    main = next(op for op in module.body.operations if op.name.value == 'main')
    number, index = ir.IntegerType.get_signless(32), state(function)
    main.arg_attrs = ir.ArrayAttr.get(
      [
        ir.DictAttr.get(
          {'tf.aliasing_output': ir.IntegerAttr.get(number, index[a['name']])}
          if a['name'] in index
          else {}
        )
        for a in function['arguments']
      ]
    )
    return client.compile_and_load(
      module,
      executable_devices=xla_client.DeviceList(tuple(devices)),
      compile_options=backend.get_compile_options(1, 1),
    )


def _array(folder, about):
  dtype = jax.numpy.dtype(about['dtype'])
  if 'drawn' in about:
    return _sampled(about['shape'], dtype, **about['drawn'])
  if about['file'] is None:
    return np.zeros(about['shape'], dtype)
  # bfloat16 is no dtype of NumPy's own: a file holds its bytes.
  return np.load(folder / about['file'], allow_pickle=False).view(dtype)


def _sampled(shape, dtype, seed, std):
  x = np.random.default_rng(seed).standard_normal(shape, np.float32) * std
  if dtype == np.int8:
    x = np.clip(np.rint(x), -127, 127)
  return x.astype(dtype)


def differences(found, function):
  """Of each result the largest, in units of its root mean square.

  Or, where that is more, of what was expected.
  """
  for result in function['results']:
    name = result['name']
    array = np.asarray(found[name], np.float64).ravel()
    scale = max(result['norm'], 1e-30)
    largest = abs(np.linalg.norm(array) - result['norm']) / scale
    # AdamW's first step is the sign of a gradient, however small. It is by the
    # moments that one can tell whether the gradients are right.
    if not name.startswith('params.'):
      expected = np.asarray(result['first'])
      first = np.abs(array[: expected.size] - expected)
      unit = np.maximum(scale / array.size**0.5, np.abs(expected))
      largest = max(largest, (first / unit).max())
    yield largest, name


def measure(program, repeats):
  """Times `repeats` calls after one that warms up."""
  before = {
    name: jax.device_put(np.int32(value))
    for name, value in program.function['before'].items()
  }
  program()
  times = []
  for _ in range(repeats):
    prompt = _seconds(lambda: program(**before)) if before else 0.0
    times.append(_seconds(program) - prompt)
  return statistics.median(times)


def _seconds(call):
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def peer(python, manifest, function, repeats):
  """What PyTorch makes of the same shapes, or why it does not."""
  model, what = manifest['model'], _WHAT[function['unit']]
  *_, rows, n = function['arguments'][0]['shape']
  is_training = what == 'train'
  command = peer_runs.peer(
    python,
    'transformers-compile',
    what=what,
    layers=model['n_layers'],
    heads=model['n_heads'],
    width=model['emb_dim'],
    vocab=model['vocab_size'],
    context_length=n - 1 if is_training else model['context_length'],
    batch_size=rows,
    prompt_length=1 if is_training else n,
    new_tokens=function['n_units'],
    repeats=repeats,
    compute_dtype=manifest['compute_dtype'],
    weights=manifest['weights'],
    device='cpu' if jax.devices()[0].platform == 'cpu' else 'cuda',
  )
  return peer_runs.figures(command)


def arguments():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument(
    '--tolerance', type=float, help='default: 0.001, 0.1 in bfloat16'
  )
  parser.add_argument('--peak_tflops', type=float, help="the device's, for MFU")
  parser.add_argument('--peers_python')
  return parser.parse_args()


def report(a, name, manifest):
  """Prints a function's figures; False where its results are wrong."""
  function = manifest['functions'][name]
  start = time.perf_counter()
  program = Program(a.folder, function)
  compile_s = time.perf_counter() - start
  print(f'{name}: loaded and compiled in {compile_s:.1f} s')
  good = check(program, manifest, a.tolerance)
  seconds = measure(program, a.repeats)
  rate, flops = function['n_tokens'] / seconds, function['flops'] / seconds
  share = f', MFU {flops / a.peak_tflops / 1e12:.1%}' if a.peak_tflops else ''
  memory = (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)
  share += f', at most {memory / 2**30:.1f} GiB' if memory else ''
  print(
    f'  {1e3 * seconds / function["n_units"]:,.3f} ms/{function["unit"]}, '
    f'{rate:,.1f} tokens/s, {flops / 1e12:.3g} TFLOP/s{share}'
  )
  if a.peers_python:
    del program  # PyTorch wants the memory.
    made = peer(a.peers_python, manifest, function, a.repeats)
    print(f'  torch.compile: {_compared(rate, made)}')
  return good


def check(program, manifest, tolerance):
  """Holds the first call's results against those of TensorFlow."""
  found, function = program(), program.function
  if 'norm' not in function['results'][0]:
    print('  results not checked: the manifest holds none')
    return True
  bits = manifest['compute_dtype'], manifest['weights']
  # Single entries of bfloat16 gradients differ so between two compilers; what
  # is computed from other arguments is off by about 1.
  limit = tolerance or (0.1 if 'bfloat16' in bits else 0.001)
  worst, where = max(differences(found, function))
  verdict = 'as expected' if worst <= limit else 'WRONG'
  print(
    f'  results {verdict}: {where} is off by {worst:.2g}, allowed {limit:g}'
  )
  return worst <= limit


def _compared(rate, made):
  if isinstance(made, str):
    return f'skipped: {made}'
  theirs = made['tokens_per_s']
  return f'{theirs:,.1f} tokens/s; this is {rate / theirs:.2f}x'


def main():
  a = arguments()
  manifest = json.loads((a.folder / 'manifest.json').read_text())
  # Else JAX takes three quarters of a GPU's memory, and PyTorch gets the rest.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  jax.config.update('jax_enable_x64', True)  # Steps are counted in int64.
  found = jax.devices()[0]
  # Folders written before there was a choice do not name one.
  if manifest.get('device') == 'cuda' and found.platform != 'gpu':
    sys.exit(f'{a.folder} is for CUDA; JAX has found {found.device_kind} here')
  print(f'{found.device_kind}, JAX {jax.__version__}')
  good = [report(a, name, manifest) for name in manifest['functions']]
  sys.exit(0 if all(good) else 1)


if __name__ == '__main__':
  main()
