"""Runs `minigpt serve-check` from a checkout: python serve_check.py --help."""

from minigpt.__main__ import run

if __name__ == '__main__':
  run('serve-check')
