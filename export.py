"""Runs `minigpt export` from a checkout: python export.py --help."""

from minigpt.__main__ import run

if __name__ == '__main__':
  run('export')
