"""Grammars: regular expressions or JSON schemas that answers must match.

Requests refer to a grammar by its name. `grammar_table` compiles grammars and a
vocabulary to the table that the decoding loop reads.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError, UsageError
from minigpt.generation import json_schema, regex_automaton
from minigpt.generation.regex_automaton import RegexAutomaton
from minigpt.runtime.json_io import read_json

_NAME = re.compile('[A-Za-z0-9_-]{1,64}')  # The rule of OpenAI's API.


class Grammar(NamedTuple):
  """A name, and the regular expression that whole answers match."""

  name: str
  regex: str
  schema: Any = None  # the JSON schema that `regex` is made from, if any

  def automaton(self) -> RegexAutomaton:
    """Returns the automaton over bytes.

    Raises:
      InputError: the expression is not supported, or outlines-core is missing.
    """
    try:
      return regex_automaton.build(self.regex)
    except InputError as error:
      raise InputError(f'grammar {self.name}: {error}') from None

  def describe(self) -> dict[str, Any]:
    """Returns the grammar as a model card lists it."""
    if self.schema is None:
      return {'regex': self.regex}
    return {'regex': self.regex, 'json_schema': self.schema}


def from_schema(name: str, schema: Any) -> Grammar:
  """Returns the grammar of a JSON schema.

  Raises:
    InputError: the schema is not supported; see `json_schema`.
  """
  return Grammar(name, json_schema.to_regex(schema), schema)


def from_card(listed: Any) -> list[Grammar]:
  """Returns the grammars that a model card lists under `grammars`."""
  return [
    Grammar(name, source['regex'], source.get('json_schema'))
    for name, source in (listed or {}).items()
  ]


def read(path: str | Path, name: str | None = None) -> Grammar:
  """Reads FILE.regex or FILE.schema.json.

  Args:
    path: the file.
    name: the grammar's name; None: the file's name without its ending.

  Raises:
    UsageError: the name or the file's ending is not allowed.
    InputError: the file is missing, or its content is not supported.
  """
  path = Path(path)
  stem = path.name.removesuffix('.regex').removesuffix('.schema.json')
  name = stem if name is None else name
  if not _NAME.fullmatch(name):
    raise UsageError(
      f'grammar={name!r:.80}: name it with up to 64 of A-Z, a-z, 0-9, _ and -'
    )
  try:
    if path.name.endswith('.schema.json'):
      return from_schema(name, read_json(path))
    if path.name.endswith('.regex'):
      return Grammar(name, path.read_text('utf-8').removesuffix('\n'))
  except InputError as error:
    raise InputError(f'grammar {name}: {error}') from None
  except (OSError, UnicodeError) as error:
    raise InputError(f'{path} cannot be read ({error})') from None
  raise UsageError(f'grammar={path}: give FILE.regex or FILE.schema.json')


def read_all(flags: Iterable[str]) -> tuple[Grammar, ...]:
  """Reads grammars given as NAME=FILE.

  Raises:
    UsageError: a flag has no `=`, a name comes twice, or as in `read`.
    InputError: as in `read`.
  """
  found: dict[str, Grammar] = {}
  for flag in flags:
    name, equals, path = flag.partition('=')
    if not equals:
      raise UsageError(f'grammar={flag}: give NAME=FILE')
    if name in found:
      raise UsageError(f'grammar={name} comes twice; give each its own name')
    found[name] = read(path, name)
  return tuple(found.values())


def same_schema(one: Any, other: Any) -> bool:
  """Tells whether two schemas are equal JSON, whatever the order of keys."""
  return _canonical(one) == _canonical(other)


def _canonical(schema: Any) -> str:
  return json.dumps(schema, sort_keys=True)
