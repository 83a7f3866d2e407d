"""The model card of an export, for people and for programs."""

import dataclasses
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

import minigpt
from minigpt.checkpoints.loading import Trained
from minigpt.model.params import count, specs


def card(
  trained: Trained,
  signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
  **more: Any,
) -> dict[str, Any]:
  """Returns the fields of the model card, for JSON.

  Args:
    trained: the run.
    signatures: of the export.
    **more: options and measurements of the export.
  """
  run, _, tokenizer, checkpoint = trained
  return {
    **more,
    'created': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    'parameters': count(specs(run.model)),
    'tokenizer': tokenizer.name,
    'end_of_text': tokenizer.end_of_text,
    'checkpoint_step': checkpoint.step,
    'val_loss': checkpoint.info.get('val_loss'),
    'versions': {
      'minigpt': minigpt.__version__,
      'tensorflow': tf.__version__,
      'git_commit': git_commit(),
    },
    **{name: dataclasses.asdict(c) for name, c in run._asdict().items()},
    'signatures': {
      name: _tensors(function) for name, function in signatures.items()
    },
  }


def _tensors(function) -> dict[str, dict[str, str]]:
  inputs = function.structured_input_signature[1]
  return {
    'inputs': {name: _describe(spec) for name, spec in inputs.items()},
    'outputs': {
      name: _describe(spec)
      for name, spec in function.structured_outputs.items()
    },
  }


def _describe(spec) -> str:  # -> 'int32 [B, ?]'
  sizes = ['?' if n is None else str(n) for n in spec.shape[1:]]
  return f'{spec.dtype.name} [{", ".join(["B", *sizes])}]'


def git_commit() -> str | None:
  """Returns the commit of this code, with '-dirty' if changed, or None."""
  try:
    return subprocess.run(
      ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'],
      cwd=Path(__file__).parent,
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def write(folder: Path, fields: dict[str, Any]) -> None:
  """Writes `model.json`, and `MODEL_CARD.md` with the same content."""
  (folder / 'model.json').write_text(json.dumps(fields, indent=2) + '\n')
  (folder / 'MODEL_CARD.md').write_text(markdown(fields), encoding='utf-8')


def markdown(fields: dict[str, Any]) -> str:
  """Formats a card as Markdown tables."""
  plain = {k: v for k, v in fields.items() if not isinstance(v, dict)}
  nested = {k: fields[k] for k in ('versions', 'model', 'data', 'train')}
  parts = [
    f'# {_cell(fields["name"])}, version {fields["version"]}',
    _table(plain),
  ]
  for name, values in nested.items():
    parts += [f'## {name}', _table(values)]
  for name, source in fields.get('grammars', {}).items():
    parts += [f'## grammar {name}', _table(source)]
  parts.append(
    '## signatures\n\n| signature | inputs | outputs |\n|---|---|---|'
  )
  rows = [
    f'| `{name}` | {_list(sides["inputs"])} | {_list(sides["outputs"])} |'
    for name, sides in fields['signatures'].items()
  ]
  return '\n\n'.join(parts) + '\n' + '\n'.join(rows) + '\n'


def _table(values: Mapping[str, Any]) -> str:
  rows = [f'| {key} | {_cell(value)} |' for key, value in values.items()]
  return '\n'.join(['| | |', '|---|---|', *rows])


def _cell(value: Any) -> str:
  """Formats any value for a cell: on one line, with `|` escaped."""
  return ' '.join(str(value).split()).replace('|', '\\|')


def _list(tensors: Mapping[str, str]) -> str:
  return ', '.join(f'`{name}` {kind}' for name, kind in tensors.items())
