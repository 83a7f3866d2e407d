"""Starts programs that write figures: peers, and minigpt beside them.

Knows nothing of TensorFlow, so that pjrt.py can be where that is not.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PEERS = Path(__file__).resolve().parent / 'peers'

# Each peer's program, and what it is told.
PEERS = {
  'transformers': ('transformers_gpt2.py',),
  'transformers-compile': ('transformers_gpt2.py', '--compile'),
  'keras-hub': ('keras_hub_gpt2.py',),
  'keras-hub-jit': ('keras_hub_gpt2.py', '--compile'),
  'jax': ('jax_gpt2.py',),
  'ctranslate2': ('ctranslate2_gpt2.py',),
  'openvino': ('openvino_gpt2.py',),
  'llama.cpp': ('llama_cpp_gpt2.py',),
}


def peer(python: str | None, name: str, **options: Any) -> list[str]:
  """The command of a peer.

  Args:
    python: the interpreter of the peers' environment; None: this one.
    options: flags of peers/harness.py.
  """
  program, *told = PEERS[name]
  flags = [f'--{key}={value}' for key, value in options.items()]
  return [python or sys.executable, str(_PEERS / program), *told, *flags]


def figures(command: Sequence[str]) -> dict[str, Any] | str:
  """What a program wrote into its --json; the reason where it did not."""
  # The peers look for no model and no news beyond this machine.
  alone = {'HF_HUB_OFFLINE': '1', 'TF_CPP_MIN_LOG_LEVEL': '2'}
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, 'figures.json')
    try:
      subprocess.run(
        [*command, f'--json={file}'],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        env={**os.environ, **alone},
      )
      return json.loads(file.read_text())
    except OSError as error:
      return str(error)
    except subprocess.CalledProcessError as error:
      return (error.stderr.strip().splitlines() or [str(error)])[-1]
