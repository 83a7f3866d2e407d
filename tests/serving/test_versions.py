"""Versions are atomic."""

from pathlib import Path

import helpers
import pytest

from minigpt.errors import InputError, UsageError
from minigpt.serving import versions

ROOT = Path(__file__).parents[2]


def content(folder, number):
  (folder / 'first').write_text(str(number))


def test_versions_count_up_and_are_never_changed(tmp_path):
  base = tmp_path / 'm'
  assert versions.publish(base, content).name == '1'
  assert versions.publish(base, content, version=7).name == '7'
  assert versions.publish(base, content).name == '8'
  with pytest.raises(InputError, match='7 exists already'):
    versions.publish(base, lambda *_: pytest.fail('written'), version=7)
  with pytest.raises(UsageError, match='version=0'):
    versions.publish(base, content, version=0)
  assert versions.versions(base) == [1, 7, 8]
  assert (base / '7' / 'first').read_text() == '7'


def test_pruning_leaves_the_newest_and_never_fewer_than_two(tmp_path):
  for _ in range(5):
    versions.publish(tmp_path, content)
  versions.publish(tmp_path, content, keep=3)
  assert versions.versions(tmp_path) == [4, 5, 6]
  for keep in (1, 0, -1):
    with pytest.raises(UsageError, match='keep_versions'):
      versions.publish(tmp_path, content, keep=keep)
  versions.prune(tmp_path, 1)
  assert versions.versions(tmp_path) == [5, 6]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['5', '6']


def test_a_number_is_a_version_however_it_is_written(tmp_path):
  for name in ('007', '8', '9', '99999999999999999999', 'x1', '1x'):
    (tmp_path / name).mkdir()
  assert versions.versions(tmp_path) == [7, 8, 9]
  with pytest.raises(InputError, match='007 exists already'):
    versions.publish(tmp_path, content, version=7)
  versions.publish(tmp_path, content, keep=2)
  assert versions.versions(tmp_path) == [9, 10]
  assert not (tmp_path / '007').exists()


def test_versions_end_where_the_servers_numbers_end(tmp_path):
  versions.publish(tmp_path, content, version=2**63 - 1)
  for version in (None, 2**63):
    with pytest.raises(UsageError, match='version=9223372036854775808'):
      versions.publish(tmp_path, content, version=version)


def test_a_failure_leaves_nothing_behind(tmp_path):
  def fail(folder, number):
    content(folder, number)
    raise OSError(28, 'No space left on device')

  with pytest.raises(InputError, match='No space left'):
    versions.publish(tmp_path, fail)
  assert not list(tmp_path.iterdir())


PUBLISHER = """
import os, random, signal, sys, time
from pathlib import Path
from minigpt.serving import server_config, versions

base, seed = Path(sys.argv[1]), int(sys.argv[2])
random.seed(seed)

def write(folder, number):
  for i in range(5):
    (folder / f'part-{i}').write_bytes(b'x' * 1000)

started = time.monotonic()
versions.publish(base, write)
once = time.monotonic() - started
for n_killed in range(100):
  # On a busy machine most are killed before they have published anything.
  if n_killed >= 12 and versions.versions(base)[-1] >= 6:
    break
  child = os.fork()
  if child == 0:
    while True:
      versions.publish(base, write, keep=3)
  time.sleep(random.uniform(0, 3 * once))
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
"""


def incomplete(base):
  """Returns the incomplete versions that a server would list."""
  for version in versions.versions(base) if base.exists() else []:
    path = base / str(version)
    try:
      sizes = [part.stat().st_size for part in path.iterdir()]
    except FileNotFoundError:
      sizes = []
    if sizes != [1000] * 5 and path.exists():
      yield version


def test_a_poller_never_sees_part_of_a_version(tmp_path):
  base = tmp_path / 'm'
  publisher = helpers.start('-c', PUBLISHER, base, 0)
  seen = set()
  while publisher.is_alive():
    assert list(incomplete(base)) == []
    seen |= set(versions.versions(base))
  assert publisher.exitcode == 0
  assert versions.versions(base)[-1] >= 6
  assert len(seen) >= 3
  assert len(versions.versions(base)) >= 2
  # The writer was killed; a server ignores what it left.
  assert any(path.name.startswith('.tmp-') for path in base.iterdir())
