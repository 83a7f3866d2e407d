"""The functions of `import minigpt`: train a model, or load one, in one call.

This module may import every package; only `minigpt/__init__.py` imports it.
"""

import dataclasses
import functools
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import tensorflow as tf

from minigpt.checkpoints import loading
from minigpt.config import GPTConfig
from minigpt.errors import unknown
from minigpt.generation.generator import Generator
from minigpt.generation.request import Request
from minigpt.kernels.quantize import quantize
from minigpt.model.params import Params
from minigpt.tokenizers import Tokenizer
from minigpt.training.metrics import say, say_nothing
from minigpt.training.run_setup import open_run
from minigpt.training.trainer import Stopped, Trainer


def train(
  workdir: str | Path,
  preset: str | None = None,
  *,
  resume: bool = True,
  quiet: bool = False,
  **overrides: Any,
) -> Trainer:
  """Trains a model, or continues the run in `workdir`.

  Args:
    workdir: the folder of the run.
    preset: one of `config.PRESETS`; None means 'finetune' if `init_from` is
      given, and 'shakespeare-char' otherwise.
    resume: False refuses a folder that already holds a run.
    quiet: print nothing.
    **overrides: fields of `GPTConfig`, `DataConfig` and `TrainConfig` that
      replace the preset's: dataset='sample', steps=100, ...

  Returns:
    The trainer after its last step.

  Raises:
    UsageError: the options make no sense, or contradict the existing run.
    InputError: the text, a model or the folder cannot be used.
    KeyboardInterrupt: a signal stopped the run. Its last step is saved; the
      same call continues from there.
  """
  with open_run(
    workdir,
    overrides,
    preset=preset,
    resume=resume,
    say=say_nothing if quiet else say,
  ) as trainer:
    outcome = trainer.train()
  if isinstance(outcome, Stopped):
    name = signal.Signals(outcome.signal).name
    raise KeyboardInterrupt(f'{name} at step {trainer.step}, which is saved')
  return trainer


def load(
  path: str | Path, weights: str = 'float32', compute_dtype: str = 'float32'
) -> 'Model':
  """Loads a model: a run, or GPT-2 as Hugging Face or OpenAI published it.

  Args:
    path: the folder of the model.
    weights: format of the weights in memory, one of `config.WEIGHTS`.
    compute_dtype: dtype of matmuls, one of `config.COMPUTE_DTYPES`.

  Raises:
    UsageError: the format or dtype is unknown.
    InputError: the model does not exist, or its files are damaged.
  """
  return Model(loading.load(path), weights, compute_dtype)


class Model:
  """A model that generates text.

  Attributes:
    config: sizes of the model.
    params: the float32 parameters, as `minigpt.gpt` takes them.
    tokenizer: turns text into token ids and back.
  """

  def __init__(
    self,
    loaded: loading.LoadedModel,
    weights: str = 'float32',
    compute_dtype: str = 'float32',
  ):
    """Quantizes the weights; programs are compiled at their first call."""
    self.config: GPTConfig = loaded.config
    # A published model's weights are NumPy arrays; each call would copy them.
    self.params: Params = tf.nest.map_structure(_variable, loaded.weights)
    self.tokenizer: Tokenizer = loaded.tokenizer
    self._compute_dtype = compute_dtype
    self._weights = quantize(self.params, weights, compute_dtype)

  @overload
  def generate(self, prompt: str, **options: Any) -> str: ...

  @overload
  def generate(self, prompt: Sequence[str], **options: Any) -> list[str]: ...

  def generate(self, prompt: str | Sequence[str], **options: Any) -> Any:
    """Generates text after a prompt, or after several in one batch.

    Args:
      prompt: the text to continue, or a sequence of them; the i-th is sampled
        with `seed + i`.
      **options: fields of `generation.request.Request`: max_new_tokens,
        temperature, top_k, top_p, seed, stop, ...

    Returns:
      The new text: a string for one prompt, a list for several.

    Raises:
      UsageError: an option is unknown, or its value out of range.
      InputError: a prompt contains text that the tokenizer cannot encode.
    """
    known = [field.name for field in dataclasses.fields(Request)]
    for name in options:
      if name not in known:
        raise unknown('option', name, known)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    texts = self._generator(prompts, Request(**options)) if prompts else []
    return texts[0] if isinstance(prompt, str) else texts

  @functools.cached_property
  def _generator(self) -> Generator:
    return Generator(
      self._weights,
      self.config,
      self.tokenizer,
      compute_dtype=self._compute_dtype,
      frozen=True,
    )


def _variable(leaf: Any) -> tf.Variable:
  return leaf if isinstance(leaf, tf.Variable) else tf.Variable(leaf)
