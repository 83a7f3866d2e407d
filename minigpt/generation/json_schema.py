"""Translates a JSON schema to a regular expression.

Every text that the expression matches is valid under the schema. The reverse
does not hold: an object's properties must come in the schema's order, and
blanks are allowed only after a comma or a colon. Keywords that an expression
cannot express are refused.

https://json-schema.org/draft/2020-12
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from minigpt.errors import InputError
from minigpt.generation import regex_automaton

_MAX_DEPTH = 16
# Keywords that do not restrict the values.
_NOTES = {
  '$comment',
  '$defs',
  '$id',
  '$schema',
  'default',
  'definitions',
  'deprecated',
  'description',
  'examples',
  'title',
}
_KEYWORDS = {
  'array': {'items', 'minItems', 'maxItems'},
  'boolean': set(),
  'integer': set(),
  'null': set(),
  'number': set(),
  'object': {'properties', 'required', 'additionalProperties'},
  'string': {'minLength', 'maxLength', 'pattern', 'format'},
}
_CHARACTER = r'(?:[^"\\\x00-\x1f\x7f]|\\["\\/bfnrt])'
_INTEGER = r'-?(?:0|[1-9][0-9]*)'
_DATE = '[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])'
_TIME = '(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z'
_HEX = '[0-9a-f]'
_FORMATS = {
  'date': _DATE,  # No day after the 28th, which every month has.
  'time': _TIME,
  'date-time': f'{_DATE}T{_TIME}',
  'uuid': f'{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}',
}
_COMMA, _COLON = ', ?', ': ?'


def to_regex(schema: Any) -> str:
  """Returns a regular expression, in the syntax of `regex_automaton`.

  Raises:
    InputError: the schema has a keyword that is unsupported or makes no sense,
      refers to itself, or is nested too deeply.
  """
  return _Reader(schema).value(schema, 'the schema', ())


class _Reader:
  """Translates the parts of one schema; `where` names a part in errors."""

  def __init__(self, root: Any):
    self._root = root

  def value(self, schema: Any, where: str, refs: tuple[str, ...]) -> str:
    """Translates one part, which was reached through the references `refs`."""
    if where.count('.') > _MAX_DEPTH:
      raise InputError(f'{where}: nested more than {_MAX_DEPTH} levels deep')
    if not isinstance(schema, Mapping):
      raise InputError(f'{where} is {schema!r:.40}; give an object with a type')
    asked = {k: v for k, v in schema.items() if k not in _NOTES}
    if '$ref' in asked:
      return self._reference(asked, where, refs)
    if 'anyOf' in asked:
      parts = _list(asked, 'anyOf', where)
      _only(asked, {'anyOf'}, where)
      return _any_of(self.value(p, f'{where}.anyOf', refs) for p in parts)
    if 'enum' in asked or 'const' in asked:
      return _literals(asked, where)
    return self._typed(asked, where, refs)

  def _reference(self, asked, where, refs):
    _only(asked, {'$ref'}, where)
    name = asked['$ref']
    if name in refs:
      raise InputError(
        f'{where}: {name} refers to itself; write the levels out, as a '
        'grammar has no depth without end'
      )
    found = self._root
    kind, _, path = str(name).partition('#/')
    for part in path.split('/'):
      part = part.replace('~1', '/').replace('~0', '~')
      if kind or not isinstance(found, Mapping) or part not in found:
        raise InputError(f'{where}: there is no {name} in the schema')
      found = found[part]
    return self.value(found, where, (*refs, name))

  def _typed(self, asked, where, refs):
    _only(asked, {'type'}.union(*_KEYWORDS.values()), where)
    kinds = asked.get('type')
    kinds = kinds if isinstance(kinds, list) and kinds else [kinds]
    for kind in kinds:
      if kind not in _KEYWORDS:
        raise InputError(
          f'{where}: type={kind!r:.40}; give one of {", ".join(_KEYWORDS)}'
        )
    allowed = set().union(*(_KEYWORDS[kind] for kind in kinds))
    _only(asked, {'type', *allowed}, where)
    return _any_of(self._of_kind(kind, asked, where, refs) for kind in kinds)

  def _of_kind(self, kind, asked, where, refs):
    if kind == 'object':
      return self._object(asked, where, refs)
    if kind == 'array':
      item = self.value(asked.get('items'), f'{where}.items', refs)
      return _array(item, asked, where)
    if kind == 'string':
      return f'"{_string(asked, where)}"'
    return {
      'boolean': 'true|false',
      'integer': _INTEGER,
      'null': 'null',
      'number': rf'{_INTEGER}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{{1,2}})?',
    }[kind]

  def _object(self, asked, where, refs):
    if asked.get('additionalProperties', False) is not False:
      raise InputError(
        f'{where}: additionalProperties must be false; name all properties'
      )
    properties = asked.get('properties', {})
    required = asked.get('required', [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
      raise InputError(f'{where}: properties is an object, required a list')
    if unnamed := [name for name in required if name not in properties]:
      raise InputError(f'{where}: {unnamed[0]!r} is required and no property')
    members = [
      (
        _literal(name)
        + _COLON
        + f'(?:{self.value(part, f"{where}.{name}", refs)})',
        name in required,
      )
      for name, part in properties.items()
    ]
    return rf'\{{{_members(members)}\}}'


def _members(members: Sequence[tuple[str, bool]]) -> str:
  """Returns the expression of members with commas between them.

  Args:
    members: the expression of each, and whether it must be there.
  """
  behind, whole = '', ''
  for member, is_required in reversed(members):
    first = member + behind
    # Without an optional first member, the next is the first.
    whole = first if is_required else f'(?:{first}|{whole})'
    behind = f'(?:{_COMMA}{member}){"" if is_required else "?"}{behind}'
  return whole


def _array(item: str, asked: Mapping[str, Any], where: str) -> str:
  least, most = _bounds(asked, 'minItems', 'maxItems', where)
  if most == 0:
    return r'\[\]'
  rest = f'{{{max(least - 1, 0)},{"" if most is None else most - 1}}}'
  items = f'(?:{item})(?:{_COMMA}(?:{item})){rest}'
  return rf'\[{items}\]' if least else rf'\[(?:{items})?\]'


def _string(asked: Mapping[str, Any], where: str) -> str:
  kinds = [k for k in ('pattern', 'format') if k in asked]
  if len(kinds) + (not {'minLength', 'maxLength'}.isdisjoint(asked)) > 1:
    raise InputError(f'{where}: give one of lengths, pattern and format')
  if kinds == ['pattern']:
    return _pattern(asked['pattern'], where)
  if kinds == ['format']:
    if asked['format'] not in _FORMATS:
      raise InputError(
        f'{where}: format={asked["format"]!r:.40}; give one of '
        f'{", ".join(_FORMATS)}'
      )
    return _FORMATS[asked['format']]
  least, most = _bounds(asked, 'minLength', 'maxLength', where)
  return f'{_CHARACTER}{{{least},{"" if most is None else most}}}'


def _pattern(pattern: Any, where: str) -> str:
  """Returns a pattern, once its texts are the same within quotes."""
  if not re.fullmatch(r'(?s)\^.*\$', str(pattern)):
    raise InputError(f'{where}: pattern={pattern!r:.60}; write it as ^...$')
  try:
    step = regex_automaton.build(pattern).step
  except InputError as error:
    raise InputError(f'{where}: pattern={pattern!r:.60}: {error}') from None
  special = [*b'"\\', *range(32)]
  if (step[:, special] != regex_automaton.DEAD).any():
    raise InputError(
      f'{where}: pattern={pattern!r:.60} can match a quote, a backslash or a '
      'control character; leave them out, as [^"\\\\\\x00-\\x1f] does'
    )
  return f'(?:{pattern[1:-1]})'


def _literals(asked: Mapping[str, Any], where: str) -> str:
  """Translates the values listed by `enum` or `const`."""
  name = 'enum' if 'enum' in asked else 'const'
  _only(asked, {name, 'type'}, where)
  values = _list(asked, 'enum', where) if name == 'enum' else [asked[name]]
  kinds = asked.get('type')
  kinds = kinds if isinstance(kinds, list) else [kinds]
  for value in values:
    if kinds != [None] and not kinds_of(value) & {*map(str, kinds)}:
      raise InputError(f'{where}: {value!r:.40} is not of type {kinds}')
  return _any_of(map(_literal, values))


def kinds_of(value: Any) -> set[str]:
  """Returns the types that a JSON value has."""
  if isinstance(value, bool) or value is None:
    return {'null' if value is None else 'boolean'}
  if isinstance(value, int | float):
    return {'number'} | ({'integer'} if value == int(value) else set())
  if isinstance(value, str):
    return {'string'}
  return {'array' if isinstance(value, list) else 'object'}


def _literal(value: Any) -> str:
  return re.sub(
    r'([\\.+*?()|\[\]{}^$#&~-])',
    r'\\\1',
    json.dumps(value, ensure_ascii=False, separators=(',', ':')),
  )


def _any_of(parts) -> str:
  expressions = [f'(?:{part})' for part in parts]
  return f'(?:{"|".join(expressions)})'


def _bounds(
  asked: Mapping[str, Any], low: str, high: str, where: str
) -> tuple[int, int | None]:
  least, most = asked.get(low, 0), asked.get(high)
  for name, n in (low, least), (high, most):
    if n is not None and (type(n) is not int or n < 0):
      raise InputError(f'{where}: {name}={n!r:.40}; give 0 or more')
  if most is not None and most < least:
    raise InputError(f'{where}: {high}={most} is below {low}={least}')
  return least, most


def _list(asked: Mapping[str, Any], name: str, where: str) -> list[Any]:
  if not isinstance(asked[name], list) or not asked[name]:
    raise InputError(f'{where}: {name} must be a list with a value at least')
  return asked[name]


def _only(asked: Mapping[str, Any], known: set[str], where: str) -> None:
  """Refuses all keywords that are not in `known`."""
  if other := sorted({*asked} - known):
    raise InputError(
      f'{where}: {other[0]} is not supported here; only '
      f'{", ".join(sorted(known))}'
    )
