"""SavedModels for TensorFlow Serving, and clients of the server."""
