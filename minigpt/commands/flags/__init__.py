"""The flags of each command, in `FLAGS` of the module of the same name.

Nothing here imports TensorFlow, so that `--help` and wrong flags are answered
at once. Each module has its own `FlagValues`, so any number of modules can be
imported, in any order.
"""
