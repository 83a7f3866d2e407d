"""An HTTP server with the interface of OpenAI's API, in front of a model.

`app` has the routes, `protocol` parses requests, `answers` builds the JSON of
answers, and `scheduler` batches the rows of all requests. An `Endpoint`
computes: a TensorFlow Serving server, or an export in the same process. Only
`app` and `run` use the web framework, Starlette on Uvicorn, which is small,
maintained, and pure Python.
"""
