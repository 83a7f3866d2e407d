"""Compiled programs are looked at as users get them, with their XLA flags.

XLA reads its flags once in a process, and all other tests take flags that
compile faster. So these run in a process of their own, which `test_hlo` starts.
"""

import os

from minigpt.runtime import startup

FLAGS_OF_USERS = 'MINIGPT_TEST_HLO'
collect_ignore_glob = [] if FLAGS_OF_USERS in os.environ else ['test_*.py']

if FLAGS_OF_USERS in os.environ:
  startup.configure()
