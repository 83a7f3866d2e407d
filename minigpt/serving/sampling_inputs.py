"""Sampling options as inputs of signatures, one version after the other.

A server refuses a request with more or fewer inputs than the signature has. So
a signature never gets another input: options that come later make a signature
of their own, and `generate` stays what clients of old know. A client asks for
the oldest version that takes all it wants, and so agrees with old exports too.
"""

from collections.abc import Container, Sequence

import numpy as np

from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, SamplingField

_MARK = '_v'
# The version of `SAMPLING_FIELDS` that a signature came with, which has its
# plain name; the others have been there from the start.
_FIRST = {'generate_chunk': 2}
# Signatures of exports with grammars, which have an input for them, came later.
_WITH_GRAMMAR = '_grammar'
_FIRST_WITH_GRAMMAR = 2


def versions(base: str = 'generate') -> range:
  """Returns the versions that an export has of a signature."""
  newest = max(field.since for field in SAMPLING_FIELDS.values())
  return range(_first(base), newest + 1)


def _first(base: str) -> int:
  if base.endswith(_WITH_GRAMMAR):
    return _FIRST_WITH_GRAMMAR
  return _FIRST.get(base, 1)


def with_grammar(base: str) -> str:
  """Returns 'generate_grammar' for 'generate', and so on."""
  return base + _WITH_GRAMMAR


def signature_name(base: str, version: int) -> str:
  """Returns 'generate' for its first version, then 'generate_v2' and so on."""
  return base if version <= _first(base) else f'{base}{_MARK}{version}'


def base_name(signature: str) -> str:
  """Returns 'generate' for each of its versions."""
  return signature.partition(_MARK)[0]


def fields_of(version: int) -> dict[str, SamplingField]:
  """Returns the options that signatures of a version take."""
  return {n: f for n, f in SAMPLING_FIELDS.items() if f.since <= version}


def needed_version(request: Request) -> int:
  """Returns the oldest version that takes what the request sets."""
  fields = (SAMPLING_FIELDS.get(name) for name, _ in request.changed())
  return max((field.since for field in fields if field), default=1)


def signature_for(base: str, requests: Sequence[Request]) -> tuple[str, int]:
  """Returns the oldest signature that takes what requests set, and its version.

  Args:
    base: its name without grammars, in its first version.
    requests: of a batch; one with a grammar makes it a signature for these.
  """
  if any(request.grammar for request in requests):
    base = with_grammar(base)
  version = max(_first(base), *map(needed_version, requests))
  return signature_name(base, version), version


def newest_version(signatures: Container[str]) -> int:
  """Returns the newest version among the signatures of an export."""
  return max(
    v for v in versions() if signature_name('generate', v) in signatures
  )


def sampling_inputs(
  request: Request, n_rows: int, version: int = 1
) -> dict[str, np.ndarray]:
  """Returns the inputs, each [B], that say how prompts are continued.

  Args:
    request: its other options are left out.
    n_rows: B.
    version: of the signature.

  Raises:
    UsageError: the request sets an option that came later.
  """
  known = fields_of(version)
  for name, value in request.changed():
    if name in SAMPLING_FIELDS and name not in known:
      raise UsageError(
        f'{name}={value}: the signature does not take it; '
        f'{signature_name("generate", SAMPLING_FIELDS[name].since)} does'
      )
  options = request.options(n_rows)
  return {name: options[name] for name in known}
