"""minigpt: a GPT as pure functions over a tree of `tf.Variable`.

>>> import minigpt
>>> run = minigpt.train('runs/mini', preset='mini', dataset='sample')
>>> model = minigpt.load('runs/mini')
>>> model.generate('the ', max_new_tokens=50, temperature=0)
>>> logits = minigpt.gpt(tokens, model.params, model.config)

Each of these names is imported at its first use: `import minigpt` by itself is
fast, imports no TensorFlow and changes nothing in the process. Everything else
is in the subpackages, which BUILD.md lists.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from minigpt.api import Model as Model
  from minigpt.api import load as load
  from minigpt.api import train as train
  from minigpt.config import GPTConfig as GPTConfig
  from minigpt.model.transformer import GPT as GPT
  from minigpt.model.transformer import gpt as gpt

__version__ = '0.1.0'

# No `__all__`: tools that read it expect its names to exist already.
_HOME = {
  'GPT': 'minigpt.model.transformer',
  'GPTConfig': 'minigpt.config',
  'Model': 'minigpt.api',
  'gpt': 'minigpt.model.transformer',
  'load': 'minigpt.api',
  'train': 'minigpt.api',
}


def __getattr__(name: str) -> Any:
  """Imports a public name at its first use."""
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
  """Returns all public names, including those not yet imported."""
  return sorted({*globals(), *_HOME})
