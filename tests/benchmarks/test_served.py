"""The benchmark of the server's path at toy size."""

import helpers


def test_a_format_has_its_rates():
  done = helpers.run(
    'benchmarks/served.py',
    '--preset=mini',
    '--vocab_size=20',
    '--rounds=1',
    '--prompt_length=4',
    '--new_tokens=3',
    '--long_prompt=8',
    '--formats=bfloat16',
  )
  assert done.returncode == 0, done.stderr
  header, row = done.stdout.splitlines()
  assert header.split() == ['tokens/s', 'batch', '1', 'batch', '8', 'prefill']
  name, *rates = row.split()
  assert name == 'bfloat16'
  # At this size the time of a token is lost in the noise, so any number will do.
  assert len([float(rate.replace(',', '')) for rate in rates]) == 3
