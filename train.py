"""Runs `minigpt train` from a checkout: python train.py --help."""

from minigpt.__main__ import run

if __name__ == '__main__':
  run('train')
