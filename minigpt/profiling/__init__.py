"""What a model costs: counted from its shapes, and measured on this machine.

`flops` counts operations and bytes, `scaling_model` tells from them what a step
of several workers takes, `workloads` puts a model to work on random tokens,
`timing` measures that, `roofline` compares the two, and `roofline_figure` draws
them. How good a model is, is measured in `analysis/`; what a run reports of
itself, in `training/metrics`.
"""
