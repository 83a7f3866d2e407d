"""JSON schemas as expressions, and schemas that are refused."""

import json

import pytest

from minigpt.errors import InputError
from minigpt.generation import json_schema, regex_automaton

PERSON = {
  '$schema': 'https://json-schema.org/draft/2020-12/schema',
  'type': 'object',
  'properties': {
    'a"b': {'type': 'string', 'maxLength': 3, 'description': 'quoted'},
    'age': {'type': 'integer'},
    'tags': {'type': 'array', 'items': {'$ref': '#/$defs/tag'}, 'maxItems': 2},
    'born': {'type': 'string', 'format': 'date'},
  },
  'required': ['age'],
  'additionalProperties': False,
  '$defs': {'tag': {'enum': ['x.y', 7, None, {'k': [1]}]}},
}
NUMBERS = {'type': 'array', 'items': {'type': ['number', 'null']}}
WORDS = {'type': 'array', 'items': {'type': 'string', 'pattern': '^(ab|c)+$'}}


def accepts(schema, text):
  automaton = regex_automaton.build(json_schema.to_regex(schema))
  return regex_automaton.matches(automaton, text.encode())


@pytest.mark.parametrize(
  'schema, text, fits',
  [
    (PERSON, '{"age": 7}', True),
    (PERSON, '{"a\\"b":"\\n\u00e9x","age":-0,"born":"1999-02-28"}', True),
    (PERSON, '{"age":1, "tags": ["x.y", {"k":[1]}]}', True),
    (PERSON, '{"age":1, "tags": ["xxy"]}', False),  # The dot is one.
    (PERSON, '{"age":1, "tags": [7,7,7]}', False),
    (PERSON, '{"a\\"b":"four","age":1}', False),
    (PERSON, '{"age":01}', False),
    (PERSON, '{}', False),
    (PERSON, '{"age":1,}', False),
    (PERSON, '{"age":1,"born":"1999-13-28"}', False),
    (NUMBERS, '[-1.5e+9, null,0]', True),
    (NUMBERS, '[]', True),
    (NUMBERS, '[1.]', False),
    (NUMBERS, '[\u0661]', False),  # A digit in Unicode, but not in JSON.
    ({**NUMBERS, 'minItems': 2}, '[1]', False),
    ({**NUMBERS, 'minItems': 2}, '[1,2,3]', True),
    (WORDS, '["abc","c"]', True),
    (WORDS, '["abc","a"]', False),
    ({'anyOf': [{'const': 'q"'}, {'type': 'boolean'}]}, '"q\\""', True),
    ({'anyOf': [{'const': 'q"'}, {'type': 'boolean'}]}, 'false', True),
    ({'type': 'object'}, '{}', True),
    ({'type': 'string'}, '"\n"', False),
  ],
)
def test_texts_of_a_schema(schema, text, fits):
  assert accepts(schema, text) == fits
  if fits:
    json.loads(text)


def test_what_is_optional_may_be_left_out_in_every_way():
  names = ('a', 'b', 'c')
  schema = {'type': 'object', 'properties': {n: {'const': n} for n in names}}
  schema['required'] = ['b']
  regex = json_schema.to_regex(schema)
  automaton = regex_automaton.build(regex)
  for there in range(8):
    value = {n: n for i, n in enumerate(names) if there >> i & 1}
    text = json.dumps(value).encode()
    assert regex_automaton.matches(automaton, text) == ('b' in value)


LOOP = {'$defs': {'n': {'anyOf': [{'$ref': '#/$defs/n'}]}}, '$ref': '#/$defs/n'}


@pytest.mark.parametrize(
  'schema, said',
  [
    (True, 'give an object with a type'),
    ({}, 'type=None; give one of array'),
    ({'type': 'int'}, "type='int'"),
    (LOOP, '#/$defs/n refers to itself'),
    ({'$ref': '#/$defs/m'}, 'there is no #/$defs/m'),
    ({'$ref': 'http://x/y'}, 'there is no http://x/y'),
    ({'type': 'integer', 'minimum': 3}, 'minimum is not supported'),
    ({'oneOf': [{'type': 'null'}]}, 'oneOf is not supported'),
    ({'type': 'array'}, 'the schema.items is None'),
    ({'type': 'string', 'minLength': 3, 'maxLength': 2}, 'is below'),
    ({'type': 'string', 'maxLength': 'x'}, "maxLength='x'; give 0"),
    ({'type': 'string', 'maxLength': 1, 'pattern': '^a$'}, 'give one of'),
    ({'type': 'string', 'pattern': 'a'}, 'write it as ^...$'),
    ({'type': 'string', 'pattern': '^.$'}, 'can match a quote'),
    ({'type': 'string', 'pattern': '^($'}, "pattern='^($':"),
    ({'type': 'string', 'format': 'email'}, "format='email'; give one of"),
    ({'type': 'object', 'required': ['a']}, "'a' is required and no"),
    ({'type': 'object', 'additionalProperties': {}}, 'must be false'),
    ({'type': 'string', 'enum': [3]}, '3 is not of type'),
    ({'enum': []}, 'enum must be a list'),
  ],
)
def test_what_is_not_supported_is_named(schema, said):
  with pytest.raises(InputError) as error:
    json_schema.to_regex(schema)
  assert said in str(error.value)


def test_a_schema_has_a_depth():
  schema = {'type': 'null'}
  for _ in range(20):
    schema = {'type': 'array', 'items': schema}
  with pytest.raises(InputError, match='16 levels'):
    json_schema.to_regex(schema)
