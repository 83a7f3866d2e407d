"""The HTTP interface that clients of OpenAI's API know, in front of a model.

`app` answers requests, `protocol` reads them and `answers` words the replies;
`scheduler` lets all that are there share batches. What computes is an
`Endpoint`: a TensorFlow Serving server, or an export in the same process. Only
`app` and `run` know of the web framework, Starlette on Uvicorn: both are small,
maintained, and pure Python.
"""
