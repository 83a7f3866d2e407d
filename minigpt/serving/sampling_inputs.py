"""Sampling options as inputs of signatures, in versions.

A server refuses a request whose inputs are not exactly those of the signature.
So a signature never gets a new input: new options create a new version of it,
and existing clients keep using the old one. A client uses the oldest version
that has all options of its request, and so works with old exports too.
"""

from collections.abc import Container, Sequence

import numpy as np

from minigpt.errors import UsageError
from minigpt.generation.request import Request
from minigpt.generation.sampling_fields import SAMPLING_FIELDS, SamplingField

_MARK = '_v'
# The first version of signatures that were added later; that version has the
# plain name. All others exist since version 1.
_FIRST = {'generate_chunk': 2}
# Signatures with an input for grammars, which were added later too.
_WITH_GRAMMAR = '_grammar'
_FIRST_WITH_GRAMMAR = 2


def versions(base: str = 'generate') -> range:
  """Returns the versions of a signature that an export has."""
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
  """Returns 'generate' for the first version, then 'generate_v2' and so on."""
  return base if version <= _first(base) else f'{base}{_MARK}{version}'


def base_name(signature: str) -> str:
  """Returns 'generate' for every version of it."""
  return signature.partition(_MARK)[0]


def fields_of(version: int) -> dict[str, SamplingField]:
  """Returns the options that the signatures of a version have."""
  return {n: f for n, f in SAMPLING_FIELDS.items() if f.since <= version}


def needed_version(request: Request) -> int:
  """Returns the oldest version with all options that the request sets."""
  fields = (SAMPLING_FIELDS.get(name) for name, _ in request.changed())
  return max((field.since for field in fields if field), default=1)


def signature_for(base: str, requests: Sequence[Request]) -> tuple[str, int]:
  """Returns the oldest signature with all options of requests, and its version.

  Args:
    base: the plain name of the signature.
    requests: of a batch; if one names a grammar, the signature has grammars.
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
  """Returns the sampling options of a request as inputs, each [B].

  Args:
    request: the request; options that are not sampling options are left out.
    n_rows: B.
    version: of the signature.

  Raises:
    UsageError: the request sets an option newer than the version.
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
