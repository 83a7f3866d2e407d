"""Measures how good a trained model is, and shows its inner workings.

`perplexity` scores running text. `tasks` scores examples with a right answer,
with the log-probabilities of `scoring` or the distances of `text_metrics`.
`introspection` runs a model on a prompt and keeps its attention and
predictions; `html_report` shows them as a page, `tensorboard` during training.
`figures` draws, `run_figures` for the curves of runs, and `evaluation_figures`
for results. Speed and cost are measured in `profiling`; exports are checked in
`conformance`.
"""
