"""Draws the model, from the list of its parameters, as architecture.svg.

python docs/images/architecture.py
"""

import itertools
from pathlib import Path

from minigpt.config import GPTConfig
from minigpt.model.params import count, named_leaves, specs

BOX = 300  # Width of a box.
FILLS = {'plain': '#eef1f6', 'block': '#e3ecfb', 'wide': '#fdf1dc'}
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 620"
 font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#1d2430">
<title>GPT-2 124M as minigpt writes it</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"
 markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#5b6675"/>
</marker>
</defs>
<rect width="760" height="620" rx="12" fill="#ffffff"/>
"""


def text(x: int, y: int, words: str, size: int = 14, **style: str) -> str:
  rest = ''.join(f' {name}="{value}"' for name, value in style.items())
  return f'<text x="{x}" y="{y}" font-size="{size}"{rest}>{words}</text>\n'


def box(x: int, y: int, title: str, note: str, n: int, kind: str) -> str:
  """Draws a step: what it is, its shapes, and how many parameters it has."""
  numbers = f'{n:,}' if n else ''
  return (
    f'<rect x="{x}" y="{y}" width="{BOX}" height="46" rx="6" '
    f'fill="{FILLS[kind]}" stroke="#c3cad5"/>\n'
    + text(x + 12, y + 19, title, **{'font-weight': 'bold'})
    + text(x + 12, y + 37, note, 12, fill='#4a5361')
    + text(x + BOX - 12, y + 19, numbers, 12, **{'text-anchor': 'end'})
  )


def arrow(*points: tuple[int, int]) -> str:
  path = ' '.join(f'{x},{y}' for x, y in points)
  return (
    f'<polyline points="{path}" fill="none" stroke="#5b6675" '
    'stroke-width="1.5" marker-end="url(#tip)"/>\n'
  )


def plus(x: int, y: int) -> str:
  return (
    f'<circle cx="{x}" cy="{y}" r="10" fill="#ffffff" stroke="#5b6675"/>\n'
    + text(x, y + 5, '+', 16, **{'text-anchor': 'middle'})
  )


def whole(config: GPTConfig) -> str:
  """Draws the model from tokens, at the bottom, to logits."""
  c, p = config, specs(config)
  x, middle = 30, 30 + BOX // 2
  steps = [
    (60, 'unembed', 'logits [B, T, V]: x wte&#8242;, wte again', (), 'plain'),
    (150, 'layernorm', 'ln_f', p.ln_f, 'plain'),
    (240, f'block, {c.n_layers} times', 'in turn', p.blocks, 'block'),
    (420, 'add positions', f'wpe [{c.context_length}, D]', p.wpe, 'plain'),
    (510, 'look up tokens', f'wte [V = {c.vocab_size:,}, D]', p.wte, 'plain'),
  ]
  drawn = [box(x, y, *rest[:2], count(rest[2]), rest[3]) for y, *rest in steps]
  tops = [y for y, *_ in steps] + [580]
  drawn += [
    arrow((middle, low), (middle, high + 46))
    for high, low in itertools.pairwise(tops)
  ]
  drawn.append(
    text(middle, 598, 'tokens [B, T]', 14, **{'text-anchor': 'middle'})
  )
  for y, words in ((350, 'residual stream'), (367, f'[B, T, D = {c.emb_dim}]')):
    drawn.append(text(middle + 12, y, words, 12, fill='#4a5361'))
  return ''.join(drawn)


def inside(config: GPTConfig) -> str:
  """Draws one block: what it adds to the residual stream."""
  c, first = config, specs(config).blocks[0]
  x, middle, left = 430, 430 + BOX // 2, 405
  equation = f'softmax(q k&#8242; / &#8730;{c.head_dim}) v'
  heads = f'{c.n_heads} heads of {c.head_dim}: {equation}'
  steps = [
    (130, 'mlp', f'D &#8594; {c.mlp_dim:,} &#8594; D, GELU', first.mlp, 'wide'),
    (205, 'layernorm', 'ln_2', first.ln_2, 'plain'),
    (355, 'attention', heads, first.attn, 'wide'),
    (430, 'layernorm', 'ln_1', first.ln_1, 'plain'),
  ]
  drawn = [
    '<rect x="385" y="40" width="360" height="520" rx="10" fill="none" '
    'stroke="#8fa6cf" stroke-dasharray="6 4"/>\n',
    text(397, 550, f'a block: {count(first):,} parameters', 12),
    '<path d="M330 240L385 40M330 286L385 560" stroke="#8fa6cf" '
    'stroke-dasharray="6 4" fill="none"/>\n',
  ]
  drawn += [box(x, y, *rest[:2], count(rest[2]), rest[3]) for y, *rest in steps]
  for bottom, branch, top in ((525, 430, 310), (310, 205, 85)):
    fork = bottom - (15 if bottom == 525 else 30)
    drawn += [
      arrow((middle, fork), (middle, branch + 46)),
      arrow((middle, branch), (middle, branch - 29)),
      arrow((middle, branch - 75), (middle, top + 10)),
      arrow((middle, fork), (left, fork), (left, top), (middle - 10, top)),
    ]
    drawn.append(plus(middle, top))
  drawn += [
    arrow((middle, 540), (middle, 511)),
    arrow((middle, 300), (middle, 281)),
    arrow((middle, 75), (middle, 50)),
  ]
  return ''.join(drawn)


def draw(config: GPTConfig) -> str:
  total = sum(count(leaf) for leaf in named_leaves(specs(config)).values())
  title = f'GPT-2 124M: {total:,} parameters'
  return (
    HEAD
    + text(30, 32, title, 16, **{'font-weight': 'bold'})
    + whole(config)
    + inside(config)
    + '</svg>\n'
  )


if __name__ == '__main__':
  path = Path(__file__).with_suffix('.svg')
  path.write_text(draw(GPTConfig()), encoding='utf-8')
  print(path)
