"""Turns text of any size into tokens to train on.

  python -m minigpt.commands.prepare --input='data/*.txt' --tokenizer=gpt2 \\
    --output=tokens
  python train.py --dataset=tokens --preset=gpt2-124m --workdir=runs/a

Reads UTF-8 text (each file a document) and .jsonl (each line a document, its
`text` field), either also as .gz. After a kill, the same command goes on.
"""

import os
from pathlib import Path

from absl import flags

from minigpt.data.corpus import input_paths, make_tokenizer, prepare
from minigpt.errors import UsageError
from minigpt.runtime import app, lock

_INPUT = flags.DEFINE_multi_string('input', [], 'a path or glob; may repeat')
_TOKENIZER = flags.DEFINE_string(
  'tokenizer', 'gpt2', "'gpt2', or a tokenizer.json that can end a text"
)
_OUTPUT = flags.DEFINE_string('output', None, 'directory for the tokens')
_WORKERS = flags.DEFINE_integer(
  'workers', os.cpu_count(), 'processes', lower_bound=1
)
_SHARD_MB = flags.DEFINE_integer(
  'shard_mb', 64, 'megabytes of text in one shard', lower_bound=1
)


def main() -> None:
  if _OUTPUT.value is None:
    raise UsageError('--output is missing; say where the tokens shall go')
  folder, tokenizer = Path(_OUTPUT.value), make_tokenizer(_TOKENIZER.value)
  paths = input_paths(_INPUT.value)
  with lock.held(folder, 'output'):
    manifest = prepare(
      paths, tokenizer, folder, _WORKERS.value, _SHARD_MB.value << 20
    )
  totals = manifest.to_json()
  print(
    f'{totals["n_tokens"]:,} tokens of {totals["n_documents"]:,} documents in '
    f'{len(manifest.shards)} shards; train on them with\n'
    f'  python train.py --dataset={folder} --workdir=...'
  )


if __name__ == '__main__':
  app.run(main)
