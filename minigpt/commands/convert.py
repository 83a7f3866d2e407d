"""Converts between work directories and GPT-2's published formats.

  python -m minigpt convert --from=downloads/gpt2 --to=runs/gpt2
  python -m minigpt convert --from=runs/s --to=models/s-for-transformers

A directory of Hugging Face (config.json, model.safetensors) or OpenAI
(hparams.json, model.ckpt.*) becomes a work directory; a work directory becomes
one that `transformers` loads. Weights stay float32, bit for bit.
"""

from pathlib import Path

from minigpt import tokenizers
from minigpt.checkpoints import workdir
from minigpt.checkpoints.huggingface import write as write_huggingface
from minigpt.checkpoints.loading import load
from minigpt.commands.flags import convert as flags
from minigpt.errors import InputError, UsageError
from minigpt.model.params import count, specs


def main() -> None:
  """Reads a model in one format and writes it in the other."""
  if flags.FROM.value is None or flags.TO.value is None:
    raise UsageError('give --from and --to')
  source, target = Path(flags.FROM.value), Path(flags.TO.value)
  if target.exists():
    raise InputError(f'{target} exists already; choose another --to')
  tokenizer = (
    tokenizers.load(flags.TOKENIZER.value) if flags.TOKENIZER.value else None
  )
  model = load(source, tokenizer)
  if model.trained is None:
    workdir.write(target, *model[:3])
    kind = 'a work directory'
  else:
    write_huggingface(target, *model[:3])
    kind = 'a GPT2LMHeadModel of transformers'
  print(f'{target}: {count(specs(model.config)):,} parameters as {kind}')
