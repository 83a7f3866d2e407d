"""How a function becomes machine code: TensorFlow and XLA, but no GPT.

Holds the backends (`backend`), operations with several implementations
(`dispatch`), `compiled` (`jit`), and the tools for writing kernels: barriers,
subgraphs that are traced once, rematerialization, custom calls, and the
processor's features. The kernels themselves live in `kernels`.
"""
