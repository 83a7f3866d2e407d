"""The flags of each command, defined in `FLAGS` of the module of its name.

Nothing here imports TensorFlow, so that `--help` and wrong flags are answered
at once. Each module has `FlagValues` of its own: importing several of them, in
any order, is no conflict.
"""
