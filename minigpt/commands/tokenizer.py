r"""Trains a byte pair encoding on your own text.

  python -m minigpt tokenizer --input='data/*.txt' --vocab_size=8192 \
    --output=tokenizer.json
  python -m minigpt train --dataset=data/a.txt --tokenizer=tokenizer.json \
    --workdir=runs/a

The file is Hugging Face's tokenizer.json: byte-level BPE with GPT-2's split.
It reads text as `minigpt prepare` does. Training needs the extra 'bpe'; using
the file does not.
"""

from pathlib import Path

from minigpt import tokenizers
from minigpt.commands.flags import tokenizer as flags
from minigpt.data.corpus import input_paths
from minigpt.data.vocabulary import train_bpe
from minigpt.errors import UsageError
from minigpt.tokenizers import bpe_trainer


def main() -> None:
  """Writes the vocabulary, and prints some of its tokens."""
  output = flags.OUTPUT.value
  if output is None or not output.endswith('.json'):
    raise UsageError('--output is missing; name a file that ends with .json')
  if Path(output).exists():
    raise UsageError(f'{output} exists already; choose another --output')
  bpe_trainer.check(flags.VOCAB_SIZE.value, flags.SPECIAL.value)
  tokenizer = train_bpe(
    input_paths(flags.INPUT.value, flags.SKIP_BAD_FILES.value),
    flags.VOCAB_SIZE.value,
    flags.SPECIAL.value,
    flags.SAMPLE_MB.value << 20,
    flags.RAW_TEXT.value,
  )
  tokenizers.save(tokenizer, output)
  n_special = len(tokenizer.special_ids)
  longest = sorted(tokenizer.tokens[:-n_special], key=len)[-5:]
  print(
    f'{output}: {tokenizer.vocab_size:,} tokens, of them '
    f'{tokenizer.vocab_size - 256 - n_special:,} merges and {n_special} special'
    f'\nfirst merges {_show(tokenizer.tokens[256:264])}'
    f'\nlongest      {_show(longest)}'
  )


def _show(tokens: list[bytes]) -> str:
  return ' '.join(repr(token.decode('utf-8', 'replace')) for token in tokens)
