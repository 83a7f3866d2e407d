"""Puts the top-level programs on the path of the tests."""
