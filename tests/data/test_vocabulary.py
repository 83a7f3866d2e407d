"""Vocabularies learned from files, and the sample of text they use."""

from minigpt.data import text_files, vocabulary
from minigpt.tokenizers.cuts import ANYWHERE


def test_parts_are_the_text_of_the_files(corpus_paths, documents):
  found = text_files.parts(corpus_paths, ANYWHERE)
  assert ''.join(found) == ''.join(documents)
  (first, *_) = corpus_paths
  paths = first, [first]
  one, same = ([*text_files.parts(path, ANYWHERE)] for path in paths)
  assert one == same


def test_a_share_is_taken_evenly():
  texts = [f'{i:04}' for i in range(1000)]
  found = list(vocabulary.sampled(texts, 0.25))
  assert found[:3] == ['0000', '0004', '0008'] and len(found) == 250
  assert list(vocabulary.sampled(texts, 1.0)) == texts
  # A long special token is still one token.
  found = list(vocabulary.sampled(['a' * 100, *['b'] * 900], 0.5))
  assert 400 <= sum(map(len, found)) - 100 <= 401


def test_a_long_corpus_is_sampled(tmp_path):
  """The sample includes the second half, which differs from the first."""
  for name, word in (('a', 'sun '), ('b', 'moon ')):
    (tmp_path / f'{name}.txt').write_text(word * 500_000)
  paths = [str(tmp_path / f'{name}.txt') for name in 'ab']
  tokenizer = vocabulary.train_bpe(paths, 264, sample_bytes=1 << 21)
  assert {b' sun', b' moon'} <= set(tokenizer.tokens)
