"""Kills training and preparation again and again; nothing may come out other.

  python benchmarks/kill_resume.py --kills=20

A run that is killed by SIGKILL at random moments (while it starts, between
steps, inside saving) and continued each time must end with the weights, the
optimizer's moments and the logged losses of one that was left alone, bit for
bit, and each time continue from the last checkpoint that was whole. The same
for `minigpt prepare` and its tokens.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

ROOT = Path(__file__).parents[1]
INTERVAL = 5
FLAGS = (
  '--preset=shakespeare-char --dataset=sample --context_length=16 '
  '--emb_dim=64 --n_heads=2 --n_layers=2 --drop_rate=0.1 --batch_size=4 '
  f'--steps=400 --steps_per_call=3 --eval_every=50 --eval_batches=1 '
  f'--checkpoint_every={INTERVAL}'
).split()


def train(path: Path) -> list[str]:
  return [sys.executable, 'train.py', f'--workdir={path}', *FLAGS]


def prepare(folder: Path, path: Path) -> list[str]:
  return [
    *(sys.executable, '-m', 'minigpt', 'prepare', f'--output={path}'),
    *(f'--input={folder}/text.txt', f'--tokenizer={folder}/words.json'),
    *('--shard_mb=1', '--workers=2'),
  ]


def start(command: list[str], log: Path) -> subprocess.Popen:
  with open(log, 'w', encoding='utf-8') as file:
    return subprocess.Popen(
      command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
    )


def kill_when(
  process: subprocess.Popen, is_time: Callable[[], bool], delay: float
) -> bool:
  """Kills the process some time after `is_time`; False if it ended before."""
  while not is_time():
    if process.poll() is not None:
      return False
    time.sleep(0.0005)
  time.sleep(delay)
  process.kill()
  return process.wait() == -signal.SIGKILL


def logged(path: Path) -> int:
  metrics = path / 'metrics.jsonl'
  return metrics.read_bytes().count(b'\n') if metrics.exists() else 0


def newest(path: Path) -> int:
  found = (path / 'checkpoints').glob('step-*')
  return max((int(p.name.removeprefix('step-')) for p in found), default=0)


def is_saving(path: Path) -> bool:
  return any((path / 'checkpoints').glob('.tmp-step-*'))


def moment(kind: str, path: Path) -> tuple[Callable[[], bool], float]:
  """When to kill a training of a kind, and how long after that."""
  if kind == 'start':
    return lambda: True, random.uniform(0, 15)
  first, more = newest(path), random.randint(1, 30)
  reached = lambda: logged(path) >= min(first + more, 398)  # noqa: E731
  if kind == 'steps':
    return reached, random.uniform(0, 0.02)
  return lambda: reached() and is_saving(path), random.uniform(0, 0.03)


def kill_training(path: Path, kinds: list[str]) -> list[tuple[str, int, int]]:
  """Kind, last logged step and step continued from, of each kill."""
  kills, log = [], path.with_suffix('.log')
  for kind in kinds:
    process = start(train(path), log)
    if not kill_when(process, *moment(kind, path)):
      raise SystemExit(f'{log}: it ended before it could be killed')
    inside = 'saving' if is_saving(path) else kind
    kills.append((inside, logged(path), newest(path)))
    _, last, saved = kills[-1]
    print(f'killed in {inside}: step {last} logged, {saved} saved', flush=True)
  return kills


def finish(command: list[str], log: Path) -> str:
  if start(command, log).wait():
    raise SystemExit(f'{log}: it failed')
  return log.read_text(encoding='utf-8')


def state(path: Path) -> dict[str, np.ndarray]:
  [last] = (path / 'checkpoints').glob('step-00000400')
  reader = tf.train.load_checkpoint(str(last / 'state'))
  names = reader.get_variable_to_shape_map()
  return {n: reader.get_tensor(n) for n in names if 'OBJECT_GRAPH' not in n}


def losses(path: Path) -> list[dict]:
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  metrics = map(json.loads, lines)
  return [
    {k: v for k, v in m.items() if k != 'tokens_per_second'} for m in metrics
  ]


def check_training(folder: Path, n: int) -> None:
  whole, killed = folder / 'whole', folder / 'killed'
  finish(train(whole), folder / 'whole.log')
  kinds = random.choices(['start', 'steps', 'saving'], [1, 2, 2], k=n)
  kills = kill_training(killed, kinds)
  said = finish(train(killed), folder / 'killed.log')
  resumed = int(re.search(r'after step (\d+)', said)[1])
  assert resumed == kills[-1][2], 'it did not continue from the newest'
  for _, last, saved in kills:
    # What was being written when the process died does not count.
    assert last - saved < 2 * INTERVAL + 3, (last, saved)
  assert losses(whole) == losses(killed), 'the losses differ'
  first, second = state(whole), state(killed)
  assert first.keys() == second.keys()
  for name, value in first.items():
    assert value.tobytes() == second[name].tobytes(), f'{name} differs'
  where = dict(Counter(kind for kind, _, _ in kills))
  print(
    f'{n} kills of training {where}: {len(first)} tensors and '
    f'{len(losses(whole))} logged steps are bit for bit the same; at most '
    f'{max(a - b for _, a, b in kills)} logged steps were made again'
  )


def write_text(folder: Path) -> None:
  words = ['tide', 'moon', 'sand', 'salt', 'gull', '\n', ' ', '.']
  chosen = random.choices(words, k=20_000_000)
  (folder / 'text.txt').write_text(''.join(chosen), encoding='utf-8')
  tokens = [*sorted(words), '<|unk|>', '<|eos|>']
  fields = {'kind': 'word', 'words': tokens}
  (folder / 'words.json').write_text(json.dumps(fields))


def check_preparation(folder: Path, n: int) -> None:
  write_text(folder)
  whole, killed = folder / 'tokens', folder / 'killed_tokens'
  finish(prepare(folder, whole), folder / 'tokens.log')
  n_shards = len(list(whole.glob('*.npy')))
  for i in range(n):
    # Finished shards leave room for the kills that are still to come.
    wanted = n_shards * i // (n + 1)
    process = start(prepare(folder, killed), folder / 'killed_tokens.log')
    ready = lambda: len(list(killed.glob('shard-*.json'))) >= wanted  # noqa
    if not kill_when(process, ready, random.uniform(0, 0.3)):
      raise SystemExit('the preparation ended before it could be killed')
  finish(prepare(folder, killed), folder / 'killed_tokens.log')
  for path in whole.iterdir():
    if path.name != 'lock':
      same = path.read_bytes() == (killed / path.name).read_bytes()
      assert same, f'{path.name} differs'
  extra = {p.name for p in killed.iterdir()} - {p.name for p in whole.iterdir()}
  assert not extra, f'left behind: {extra}'
  print(
    f'{n} kills of prepare: {n_shards} shards and their manifest are the same'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  random.seed(options.seed)
  with tempfile.TemporaryDirectory() as folder:
    check_training(Path(folder), options.kills)
    check_preparation(Path(folder), options.kills)


if __name__ == '__main__':
  main()
