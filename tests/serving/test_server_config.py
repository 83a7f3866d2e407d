"""The server's configuration."""

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from minigpt.serving import server_config, versions

ROOT = Path(__file__).parents[2]


def test_serving_config_is_what_the_server_parses(tmp_path):
  configs = pytest.importorskip(
    'tensorflow_serving.config.model_server_config_pb2'
  )
  from google.protobuf import text_format

  command = server_config.write_serving_config(
    tmp_path, 'sun', [1, 2, 8], False
  )
  parsed = text_format.Parse(
    (tmp_path / 'models.config').read_text(), configs.ModelServerConfig()
  )
  (config,) = parsed.model_config_list.config
  assert (config.name, config.base_path) == ('sun', '/models/sun')
  batching = (tmp_path / 'batching.config').read_text().splitlines()
  allowed = [x.split()[1] for x in batching if x.startswith('allowed')]
  assert allowed == ['1', '2', '8']
  # A batch has up to 8 rows; a request may have more, and is split.
  assert 'max_execution_batch_size { value: 8 }' in batching
  assert 'enable_large_batch_splitting { value: true }' in batching
  assert 'max_batch_size { value: 1024 }' in batching
  assert f'source={tmp_path},target=/models/sun' in command
  assert f'tensorflow/serving:{tf.__version__}' in command
  assert 'xla' not in command
  assert '--xla_cpu_compilation_enabled=true' in server_config.docker_command(
    tmp_path, 'sun', True
  )
  assert versions.versions(tmp_path) == []


@pytest.mark.parametrize(
  'name',
  ['a b', "it's", 'a"b', 'a\\b', 'a\nb', 'a,b', '$(x);&', 'a\t\u00e4', '"'],
)
def test_any_name_reaches_the_server(tmp_path, name):
  configs = pytest.importorskip(
    'tensorflow_serving.config.model_server_config_pb2'
  )
  from google.protobuf import text_format

  parsed = text_format.Parse(
    server_config.models_config(name), configs.ModelServerConfig()
  )
  (config,) = parsed.model_config_list.config
  assert (config.name, config.base_path) == (name, f'/models/{name}')
  words = shlex.split(server_config.docker_command(tmp_path / name, name, True))
  mount = words[words.index('--mount') + 1]
  (fields,) = csv.reader([mount], strict=True)
  assert fields[1:3] == [f'source={tmp_path}/{name}', f'target=/models/{name}']
  assert f'MODEL_NAME={name}' in words
  assert f'--model_config_file=/models/{name}/models.config' in words


def test_compose_starts_the_server_as_the_printed_command_does(tmp_path):
  command = server_config.docker_command(tmp_path, 'sun', False)
  printed = [w for w in shlex.split(command) if '_' in w and '=' in w]
  compose = (ROOT / 'docker' / 'compose.yaml').read_text()
  options = re.findall(r'^ +- (--.*)$', compose, re.MULTILINE)
  named = [option.replace('${MODEL}', 'sun') for option in options]
  assert named == [word for word in printed if word.startswith('--')]


def test_the_script_for_the_real_server_is_bash_and_needs_an_export(tmp_path):
  script = ROOT / 'docker' / 'try_server.sh'
  done = subprocess.run(
    [script, tmp_path], capture_output=True, text=True, cwd=tmp_path
  )
  assert done.returncode == 2
  assert done.stderr.startswith('usage: ')
  assert not (tmp_path / 'try_server.log').exists()
  subprocess.run(['bash', '-n', script], check=True)
