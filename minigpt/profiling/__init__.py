"""The cost of a model: computed from its shapes, and measured on this machine.

`flops` counts operations and bytes; `scaling_model` predicts a step of several
workers from them. `workloads` are programs on random tokens, which `timing`
measures; `roofline` compares both, and `roofline_figure` draws the comparison.
Quality is measured in `analysis`; the metrics of a run are in
`training.metrics`.
"""
