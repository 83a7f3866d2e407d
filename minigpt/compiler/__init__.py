"""How a function becomes machine code. Knows TensorFlow and XLA, but no GPT.

Lives here: the backends (`backend`), operations with several implementations
(`dispatch`), `compiled` (`jit`), and the tools that kernels are made of:
barriers, subgraphs that are traced once, rematerialization, custom calls, and
what the processor can do. What a kernel computes lives in `kernels`.
"""
