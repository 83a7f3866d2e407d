"""`minigpt bench` at toy size: its report and its errors."""

import json

import helpers
import pytest
import tensorflow as tf

from minigpt.profiling import roofline

TOY = (
  '--preset=mini',
  '--n_layers=1',
  '--emb_dim=16',
  '--n_heads=2',
  '--batch_size=2',
  '--context_length=16',
  '--prompt_length=4',
  '--new_tokens=3',
  '--repeats=1',
)


def test_the_program_reports_figures(tmp_path):
  file, plot = tmp_path / 'figures.json', tmp_path / 'roofline.svg'
  flags = ['--what=decode', f'--json={file}', f'--plot={plot}', *TOY]
  done = helpers.run('-m', 'minigpt', 'bench', *flags)
  assert done.returncode == 0, done.stderr
  assert '<svg' in plot.read_text()
  figures = json.loads(file.read_text())
  assert figures['what'] == 'decode'
  assert figures['unit'] == 'token' and figures['gflop_per_unit'] > 0
  assert figures['shapes']['new_tokens'] == 3
  assert figures['model']['emb_dim'] == 16
  assert figures['repeats'] == 1
  assert figures['versions']['tensorflow'] == tf.__version__
  assert figures['machine']['processor']
  assert figures['n_compiled'] == 1
  assert f'n_compiled             {figures["n_compiled"]}' in done.stdout


def test_the_roofline_alone_is_reported(tmp_path, monkeypatch, capsys):
  """`profiling/test_roofline.py` measures one."""
  limits = roofline.Roofline(flops=2e11, bandwidth=3e10)
  monkeypatch.setattr(roofline, 'measure_roofline', lambda *_: limits)
  file, plot = tmp_path / 'figures.json', tmp_path / 'roofline.svg'
  flags = ['--what=roofline', f'--json={file}', f'--plot={plot}', *TOY]
  assert helpers.run_here('bench', *flags) == 0
  figures = json.loads(file.read_text())
  assert (figures['flops'], figures['bandwidth']) == limits
  said = capsys.readouterr().out.splitlines()
  assert 'flops                  2e+11' in said and said[-1] == str(plot)
  # Text is drawn as paths; comments hold its characters.
  assert 'matmuls: 200 GFLOP/s' in plot.read_text()


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--what=trian'], "unknown what 'trian': did you mean 'train'?"),
    (['--weights=int8'], '--weights=int8 is for prefill and decode'),
    (['--compile=xls'], "unknown compile 'xls': did you mean 'xla'?"),
    (['--what=decode', '--new_tokens=99'], '103 tokens do not fit'),
    (['--repeats=0'], 'repeats=0: it must be 1 or more'),
    (['--device=cude'], "unknown device 'cude': did you mean 'cuda'?"),
    (['--device=cuda'], '--device=cuda: this machine is what is timed'),
    (['--plot=a.jpg'], 'plot=a.jpg: it must end in .png, .svg, .pdf'),
    (['--plot=a.svg', '--stablehlo=a'], '--plot: --stablehlo times nothing'),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_what_cannot_be_measured_is_one_line(flags, said):
  done = helpers.run('-m', 'minigpt', 'bench', *TOY, *flags)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert said in done.stderr
