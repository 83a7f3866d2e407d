"""The training step, and the run around it.

The step: its state (`state`, `step`), the optimizers (`optimizers`, `muon`,
`schedules`), and evaluation during training (`validation`).

The run: `run_setup.open_run` begins, continues or joins a run;
`trainer.Trainer` trains it and `run_state` restores and saves it.
`distribution` and `rendezvous` serve several workers, `stability` handles
losses that spike or are not finite, `metrics` records and prints progress, and
`memory_estimate` predicts the memory. Figures and TensorBoard, which observe a
run, live in `analysis`.
"""
