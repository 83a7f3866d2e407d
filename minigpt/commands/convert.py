"""Converts between work directories and GPT-2's published formats.

  python -m minigpt.commands.convert --from=downloads/gpt2 --to=runs/gpt2
  python -m minigpt.commands.convert --from=runs/s --to=models/s-for-transformers

A directory of Hugging Face (config.json, model.safetensors) or OpenAI
(hparams.json, model.ckpt.*) becomes a work directory; a work directory becomes
one that `transformers` loads. Weights stay float32, bit for bit.
"""

from pathlib import Path

from absl import flags

from minigpt import tokenizers
from minigpt.checkpoints import workdir
from minigpt.checkpoints.huggingface import is_pretrained
from minigpt.checkpoints.huggingface import write as write_huggingface
from minigpt.checkpoints.loading import load
from minigpt.errors import InputError, UsageError
from minigpt.model.params import count, specs
from minigpt.runtime import startup

_FROM = flags.DEFINE_string('from', None, 'directory to read')
_TO = flags.DEFINE_string('to', None, 'directory to write; a new one')
_TOKENIZER = flags.DEFINE_string(
  'tokenizer', None, 'tokenizer.json, for a model whose own cannot be read'
)


def main() -> None:
  if _FROM.value is None or _TO.value is None:
    raise UsageError('give --from and --to')
  source, target = Path(_FROM.value), Path(_TO.value)
  if target.exists():
    raise InputError(f'{target} is there already; choose another --to')
  tokenizer = tokenizers.load(_TOKENIZER.value) if _TOKENIZER.value else None
  model = load(source, tokenizer)
  if is_pretrained(source):
    workdir.write(target, *model)
    kind = 'a work directory'
  else:
    write_huggingface(target, *model)
    kind = 'a GPT2LMHeadModel of transformers'
  print(f'{target}: {count(specs(model.config)):,} parameters as {kind}')


if __name__ == '__main__':
  startup.run(main)
