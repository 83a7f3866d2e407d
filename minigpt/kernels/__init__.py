"""Faster programs for functions of the model."""
