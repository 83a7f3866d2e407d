"""`minigpt generate`: prompts, samples, and invalid flags."""

import helpers
import pytest


@pytest.fixture
def generate(run_dir, capsys):
  """Returns the exit code, the output and the error output."""

  def call(*flags):
    code = helpers.run_here('generate', f'--workdir={run_dir}', *flags)
    return code, *capsys.readouterr()

  return call


def test_one_prompt_is_streamed_with_its_text(generate):
  code, out, err = generate('--prompt=ab', '--max_new_tokens=5', '--seed=1')
  assert (code, err) == (0, '')
  assert out.startswith('ab') and len(out) == len('ab') + 5 + len('\n')


def test_each_prompt_has_its_samples_with_seeds_that_count_up(generate):
  flags = ['--max_new_tokens=4', '--temperature=1.5']
  prompts = ['--prompt=ab', '--prompt=c', '--num_samples=2', '--seed=7']
  code, out, _ = generate(*prompts, *flags)
  assert code == 0
  assert [f'--- {i}' in out for i in range(6)] == [False, *[True] * 4, False]
  # One of the four formats, as each would be compiled separately.
  _, alone, _ = generate('--prompt=c', '--seed=9', *flags)
  assert f'--- 3\n{alone}' in out


def test_constraints_reach_the_model(generate):
  first, second = '\0\n abcdefghijkl\u00df\u0301'[5:7]
  biases = ['--logit_bias=5=200', '--logit_bias=6=100']
  flags = ['--prompt=ab', '--max_new_tokens=3', *biases, f'--ban={first}']
  assert generate(*flags)[1] == f'ab{second * 3}\n'


@pytest.mark.parametrize(
  ('flags', 'code', 'words'),
  [
    ([], 2, 'at least one --prompt'),
    (['--prompt=a', '--num_samples=0'], 2, 'num_samples=0'),
    (['--prompt=a', f'--num_samples={2**40}'], 2, 'num_samples=1099511627776'),
    (['--prompt=a', f'--num_beams={2**40}'], 2, 'num_beams=1099511627776'),
    (['--prompt=a', '--top_p=2'], 2, 'top_p=2'),
    (['--prompt=a', '--temperature=-1'], 2, 'temperature=-1'),
    (['--prompt=a', '--logit_bias=5'], 2, 'logit_bias=5: give a token'),
    (['--prompt=a', '--logit_bias=5=nan'], 2, 'logit_bias'),
    (['--prompt=a', '--num_beams=2', '--length_penalty=nan'], 2, 'penalty=nan'),
    (
      ['--prompt=a', f'--top_k={2**31}'],
      2,
      'top_k=2147483648: it must be at most',
    ),
    (['--prompt=a', '--logit_bias=x=1'], 2, 'logit_bias=x=1'),
    (['--prompt=a', '--weights=int4'], 2, "unknown weights 'int4'"),
    (['--prompt=a', '--compute_dtype=half'], 2, 'unknown compute_dtype'),
    (['--prompt=a', '--prompt=a\udcff'], 1, 'is not UTF-8 at position 1'),
    (['--prompt=Q'], 1, "character 'Q'"),
    (['--prompt=a', '--workdir=/dev/null/no'], 1, '/dev/null/no'),
  ],
)
def test_bad_input_gets_one_line(generate, flags, code, words):
  found, out, err = generate(*flags)
  assert (found, out) == (code, '')
  assert err.count('\n') == 1 and words in err
