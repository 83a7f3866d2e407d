"""GPT-2 as equations over a tree of parameters, and nothing else.

Every function takes the parameters it needs and returns its result. Each
operation is written as in the paper that it cites. Faster implementations live
in `kernels`; eager code and models observed through hooks never run those.
Training lives in `training`, text in `generation`.
"""
