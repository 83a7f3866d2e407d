"""Measures what a trained model knows, and shows how it goes about it.

`perplexity` measures running text; `tasks` measures examples with a right
answer, by the scores of `scoring` or by the distances of `text_metrics`.
`introspection` runs a model on a prompt and keeps attention and expectations;
`figures`, `html_report` and `tensorboard` show them, and the curves of runs.
How fast a model is, and what it costs, is the matter of `profiling/`; whether
an export is right, of `conformance/`.
"""
