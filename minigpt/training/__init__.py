"""The training step, and the run around it.

Here lives what moves weights: the state and its step (`state`, `step`), the
optimizers (`optimizers`, `muon`, `schedules`) and evaluation while training
(`validation`); and the run as an object: `run_setup.open_run` begins, continues
or joins one, `trainer.Trainer` trains it and `run_state` keeps it, with
`distribution` and `rendezvous` for several workers, `stability` for numbers
that break, `metrics` for what is seen and remembered, and `memory_estimate` for
what it takes. Not here: pictures and TensorBoard, which observe a run from
above (`analysis`).
"""
