"""Checks that an exported model does what it must."""
