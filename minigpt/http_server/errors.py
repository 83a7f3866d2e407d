"""Errors in the format of OpenAI's API.

https://platform.openai.com/docs/guides/error-codes
"""

from typing import Any

from minigpt.serving.endpoint import EndpointError

# HTTP statuses of the errors of an endpoint; all others are 500.
_STATUS = {
  'INVALID_ARGUMENT': 400,
  'NOT_FOUND': 404,
  'RESOURCE_EXHAUSTED': 429,
  'UNAVAILABLE': 503,
  'DEADLINE_EXCEEDED': 504,
}


class HttpError(Exception):
  """An answer with a status other than 200.

  Attributes:
    status: the HTTP status.
    message: for people.
    param: the field that is wrong, if there is one.
    code: for programs.
  """

  def __init__(
    self,
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
  ):
    super().__init__(message)
    self.status, self.message = status, message
    self.param, self.code = param, code

  def body(self) -> dict[str, Any]:
    """Returns the body of the answer."""
    kind = 'invalid_request_error' if self.status < 500 else 'server_error'
    if self.status == 429:
      kind = 'rate_limit_error'
    about = {'message': self.message, 'type': kind}
    return {'error': {**about, 'param': self.param, 'code': self.code}}


def of_endpoint(error: EndpointError) -> HttpError:
  """Returns the answer to a client for an error of the endpoint."""
  status = _STATUS.get(error.kind, 500)
  return HttpError(status, str(error), code=error.kind.lower())
