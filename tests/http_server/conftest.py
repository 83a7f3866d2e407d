import pytest


@pytest.fixture(scope='session')
def embedded(session):
  """The export in the same process, behind the HTTP server."""
  pytest.importorskip('starlette', reason='no starlette')
  from http_server_fixtures import serve, template

  with serve(session, template=template) as served:
    yield served
