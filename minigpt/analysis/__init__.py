"""Measures a model and looks inside it."""
