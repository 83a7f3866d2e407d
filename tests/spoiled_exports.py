"""Damages a copy of an export, and runs a check on it."""

from tensorflow.core.protobuf import saved_model_pb2

from minigpt.conformance import parity_checks, report
from minigpt.conformance.serving_session import ServingSession
from minigpt.conformance.subject import run_check

ALL = report.CHECKS | parity_checks.CHECKS


def edit(path, change):
  """Changes the SavedModel's graph in place."""
  file = path / 'saved_model.pb'
  saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
  change(saved.meta_graphs[0])
  file.write_bytes(saved.SerializeToString())


def without(model, *names):
  """Returns the model without some of the information about it."""
  files = model.files._replace(**dict.fromkeys(names))
  return model._replace(files=files)


def on(model, export_dir):
  """Returns the model with another export to check."""
  return model._replace(
    endpoint=ServingSession(export_dir),
    files=model.files._replace(export_dir=export_dir),
  )


def beside(model, export_dir):
  """Returns the model with the files of another export."""
  return model._replace(files=model.files._replace(export_dir=export_dir))


def answering(model, signature, change):
  """Returns the model with the answers of one signature changed."""

  class Other:
    signatures = model.endpoint.signatures

    def predict(self, name, inputs):
      answer = model.endpoint.predict(name, inputs)
      return change(answer) if name == signature else answer

  return model._replace(endpoint=Other())


def outcome(name, model):
  return run_check(name, ALL[name], model)


def failure(name, model):
  check = outcome(name, model)
  assert check.status == 'fail', check
  return check.detail
