"""SavedModels for TensorFlow Serving, and clients of the server.

Holds the signatures of an export, and how an export is written, published and
configured; endpoints over gRPC and REST; the client that generates through
them; and StableHLO artifacts for other runtimes. Checks of exports live in
`conformance`, the computations in `model` and `generation`.
"""
