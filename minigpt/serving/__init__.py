"""SavedModels for TensorFlow Serving, and clients of the server.

Lives here: the signatures of an export and how it is written, published and
configured; endpoints over gRPC and REST; the client that generates through
them; StableHLO artifacts for other devices. What checks an export lives in
`conformance`, what a signature computes in `model` and `generation`.
"""
