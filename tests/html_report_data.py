"""Reads the data back from an HTML report."""

import base64
import json
import re

import numpy as np


def read_data(page):
  [data] = re.findall(
    '<script id="data" type="application/json">(.*)</script>', page
  )
  assert '<' not in data  # Otherwise a token could end the script element.
  return json.loads(data)


def read_attention(data):
  n = len(data['tokens'])
  maps = np.zeros([data['layers'], data['heads'], n, n], np.float32)
  rows, columns = np.tril_indices(n)
  past = np.frombuffer(base64.b64decode(data['attention']), '<f4')
  maps[..., rows, columns] = past.reshape(*maps.shape[:2], -1)
  return maps
