"""Spoils a copy of an export, and says what a check of it finds."""

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


def swap(signature, a, b):
  """Returns a change of the graph: two outputs change places."""

  def change(graph):
    outputs = graph.signature_def[signature].outputs
    outputs[a].name, outputs[b].name = outputs[b].name, outputs[a].name

  return change


def without(model, *names):
  """Returns the model with less known about it."""
  files = model.files._replace(**dict.fromkeys(names))
  return model._replace(files=files)


def on(model, export_dir):
  """Returns the model with another export behind it."""
  return model._replace(
    endpoint=ServingSession(export_dir),
    files=model.files._replace(export_dir=export_dir),
  )


def outcome(name, model):
  return run_check(name, ALL[name], model)


def failure(name, model):
  check = outcome(name, model)
  assert check.status == 'fail', check
  return check.detail
