"""The form of the shop's queries, as a regular expression.

  python -m examples.queries.grammar > query.regex

It is wider than the data, which knows fewer combinations, and narrower than
SQL: all that it matches is valid, as columns are those of the tables read.
"""

import re
from collections.abc import Iterable

from examples.queries.make_queries import KEYS, NUMBERS, TEXTS, VALUES, columns

_NUMBER = '[1-9][0-9]?'


def regex() -> str:
  """Returns what a query matches."""
  simple = (_simple(table) for table in NUMBERS)
  joined = (_joined(key, other) for key, other in KEYS)
  return f'SELECT {_any([*simple, *joined], escape=False)};'


def _simple(table: str) -> str:
  column, number = _any(columns(table)), _any(NUMBERS[table])
  shown = rf'(?:{column}|(?:min|max|sum|avg)\({number}\))'
  condition = _condition(table)
  return (
    f'{shown}(?:, {shown}){{0,2}} FROM {table}'
    f'(?: WHERE {condition}(?: (?:AND|OR) {condition})?)?'
    rf'(?: GROUP BY {column}(?: HAVING count\(\*\) > [1-9])?)?'
    f'(?: ORDER BY {column}(?: DESC)?)?(?: LIMIT (?:1|5|10|20|100))?'
  )


def _condition(table: str) -> str:
  number = _any(NUMBERS[table])
  kinds = [
    rf'{number} IN \({_nested()}\)',
    f'{number} BETWEEN {_NUMBER} AND {_NUMBER}',
    f'{number} (?:<|>|=|!=) {_NUMBER}',
    *(f"{text} = '{_any(VALUES[text])}'" for text in TEXTS[table]),
  ]
  return _any(kinds, escape=False)


def _nested() -> str:
  kinds = [
    f'{number} FROM {table} WHERE {_any(numbers)} > {_NUMBER}'
    for table, numbers in NUMBERS.items()
    for number in [_any(numbers)]
  ]
  return f'SELECT {_any(kinds, escape=False)}'


def _joined(key: str, other: str) -> str:
  tables = [column.partition('.')[0] for column in (key, other)]
  column = _any([f'{t}.{c}' for t in tables for c in columns(t)])
  condition = re.escape(f'{key} = {other}').replace(r'\ ', ' ')
  return (
    f'{column}(?:, {column}){{0,2}} FROM {tables[0]} JOIN {tables[1]} '
    f'ON {condition}'
  )


def _any(choices: Iterable[str], escape: bool = True) -> str:
  return f'(?:{"|".join(map(re.escape, choices) if escape else choices)})'


if __name__ == '__main__':
  print(regex())
