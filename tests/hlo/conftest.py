"""Compiled programs are looked at as users get them, with their XLA flags.

XLA reads its flags once in a process, and all other tests take flags that
compile faster. So these run in a process of their own, which `test_hlo` starts.

What becomes of the optimized program is nothing to them: LLVM, which takes half
of the time, may be quick about it.
"""

import os

from minigpt.runtime import startup

FLAGS_OF_USERS = 'MINIGPT_TEST_HLO'
collect_ignore_glob = [] if FLAGS_OF_USERS in os.environ else ['test_*.py']

if FLAGS_OF_USERS in os.environ:
  os.environ['XLA_FLAGS'] = '--xla_backend_optimization_level=0'
  startup.configure()
