"""GPT-2 as equations over a tree of parameters, and nothing else.

Every function takes the parameters it needs and returns its result; each
operation is its definition, to be read beside the papers it cites. Faster
programs for the same operations live in `kernels`, which eager code and
observed models never run. Training lives in `training`, text in `generation`.
"""
