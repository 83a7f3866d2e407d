"""An export in a v1 session, and files that are no export."""

import pytest

from minigpt.conformance.serving_session import read_saved_model
from minigpt.errors import InputError, UsageError
from minigpt.serving.endpoint import EndpointError


def test_wrong_inputs_are_named(session):
  with pytest.raises(UsageError, match='takes text; given were prompt'):
    session.predict('score', {'prompt': ['a']})
  with pytest.raises(UsageError, match=r'score\.text must be string'):
    session.predict('score', {'text': [1]})
  with pytest.raises(EndpointError, match='NOT_FOUND: no signature'):
    session.predict('scores', {'text': ['a']})


def test_an_error_of_the_graph_has_the_status_that_a_server_gives(session):
  with pytest.raises(EndpointError) as caught:
    session.predict('score', {'text': [b'\xff']})
  assert caught.value.kind == 'INVALID_ARGUMENT'


def test_what_is_no_saved_model_is_named(tmp_path):
  with pytest.raises(InputError, match='holds no SavedModel'):
    read_saved_model(tmp_path)
  (tmp_path / 'saved_model.pb').write_bytes(b'no')
  with pytest.raises(InputError, match='is not a SavedModel'):
    read_saved_model(str(tmp_path))
  (tmp_path / 'saved_model.pb').write_bytes(b'')
  with pytest.raises(InputError, match="no graph tagged 'serve'"):
    read_saved_model(tmp_path)
