"""minigpt: a GPT as pure functions over a tree of `tf.Variable`."""

__version__ = '0.1.0'
