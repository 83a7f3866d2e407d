r"""Turns text of any size into token files to train on.

  python -m minigpt prepare --input='data/*.txt' --tokenizer=gpt2 \
    --output=tokens
  python -m minigpt train --dataset=tokens --preset=gpt2-124m --workdir=runs/a

Reads UTF-8 text (a file is a document), .jsonl (the `text` field of a line is a
document) and .parquet (a row is a document); text and .jsonl also as .gz and
.zst. docs/data.md has the rules. A vocabulary of characters, words or byte
pairs is learned in a first pass. If the command is killed, the same command
continues.
"""

import shlex
from pathlib import Path

from minigpt.commands.flags import prepare as flags
from minigpt.data.corpus import input_paths, make_tokenizer, prepare
from minigpt.errors import UsageError
from minigpt.runtime import lock
from minigpt.runtime.output import program


def main() -> None:
  """Writes a directory of tokens; prints the command to train on it."""
  if flags.OUTPUT.value is None:
    raise UsageError('--output is missing; say where to write the tokens')
  folder = Path(flags.OUTPUT.value)
  # Check the paths first: the tokenizer may have to be downloaded or learned.
  paths = input_paths(flags.INPUT.value, flags.SKIP_BAD_FILES.value)
  raw = flags.RAW_TEXT.value
  tokenizer = make_tokenizer(
    flags.TOKENIZER.value,
    paths,
    raw,
    vocab_size=flags.VOCAB_SIZE.value,
    special=flags.SPECIAL.value,
    unknown_character=flags.UNKNOWN_CHARACTER.value,
  )
  with lock.held(folder, 'output'):
    manifest = prepare(
      paths,
      tokenizer,
      folder,
      flags.WORKERS.value,
      flags.SHARD_MB.value << 20,
      raw,
    )
  totals = manifest.to_json()
  print(
    f'{totals["n_tokens"]:,} tokens of {totals["n_documents"]:,} documents in '
    f'{len(manifest.shards)} shards; train on them with\n'
    f'  {program()} train --dataset={shlex.quote(str(folder))} '
    '--workdir=...'
  )
