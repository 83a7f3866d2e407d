"""Texts that several tests encode."""

import pytest


@pytest.fixture(scope='session')
def mixed():
  """A text with accents, a joined emoji, CJK, odd white space, a NUL."""
  return (
    "Don't stop!  It\u2019s 'fine'\r\n\tna\u00efve cafe\u0301 \u6f22\u5b57"
    '\u3000\u00a0\U0001f469\u200d\U0001f680 \x00 1\u00bd \u2028end \n'
  )


@pytest.fixture(scope='session')
def sample():
  return (
    'the sun sets in the west. the stars shine in the night. '
    'the moon rises with grace.'
  )
