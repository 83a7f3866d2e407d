"""1: one for each byte; 2: 32 million, a quarter of GPT-2 124M."""

from pathlib import Path

from minigpt.config import GPTConfig
from minigpt.tokenizers import bpe_trainer

page = Path(bpe_trainer.__file__).parents[2] / 'docs' / 'lesson' / 'page.txt'
text = page.read_text('utf-8')
tokenizer = bpe_trainer.train([text], vocab_size=257)  # and end of text
n = len(tokenizer.encode(text))
print(f'{n} tokens, {len(text.encode())} bytes')
assert n == len(text.encode())

config = GPTConfig()
saved = (config.vocab_size - 8192) * config.emb_dim
print(f'{saved:,} numbers, {saved / config.n_parameters:.0%} of GPT-2 124M')
assert saved == 32_305_920
