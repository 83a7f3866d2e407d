"""A table of a model's parameters."""

from minigpt.config import GPTConfig
from minigpt.model.params import Params, count


def summary(p: Params, config: GPTConfig) -> str:
  """Returns a table: parameters by part, and memory of the training state."""
  c = config
  rows = [
    (
      'token embeddings',
      f'{c.vocab_size + c.vocab_padding:,} x {c.emb_dim}',
      count(p.wte),
    ),
    (
      'position embeddings',
      f'{c.context_length:,} x {c.emb_dim}',
      count(p.wpe),
    ),
    (
      'attention',
      f'{c.n_layers} x {c.n_heads} heads of {c.head_dim}',
      sum(count(block.attn) for block in p.blocks),
    ),
    (
      'MLP',
      f'{c.n_layers} x {c.mlp_dim} wide',
      sum(count(block.mlp) for block in p.blocks),
    ),
    (
      'layer norms',
      f'{2 * c.n_layers + 1} x {c.emb_dim}',
      count(p.ln_f) + sum(count((b.ln_1, b.ln_2)) for b in p.blocks),
    ),
    ('head', 'tied' if c.tie_embeddings else 'untied', count(p.head)),
  ]
  total = count(p)
  lines = [f'{name:<20} {shape:<24} {n:>13,}' for name, shape, n in rows]
  lines.append(f'{"total":<45} {total:>13,}')
  # Weights, gradient and AdamW's two moments, four bytes each.
  mib = 16 * total / 2**20
  lines.append(f'{"weights, gradient and moments":<45} {mib:>9,.0f} MiB')
  return '\n'.join(lines)
