"""The description of the machine."""

from minigpt.profiling import machine


def test_the_processor_is_named_as_linux_names_it(tmp_path):
  file = tmp_path / 'cpuinfo'
  file.write_text('processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nflags: a\n')
  assert machine.processor(file) == 'Fast CPU @ 3 GHz'
  assert machine.processor(tmp_path / 'none')
  # A cloud machine may only name the maker.
  file.write_text('cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n')
  assert machine.processor(file) == 'AMD EPYC (family 26)'


def test_a_machine_without_a_gpu_has_cores():
  found = machine.describe()
  assert found['cores'] >= 1
  assert found['gpus'] == []
