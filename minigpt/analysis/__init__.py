"""Measures what a trained model knows, and shows how it goes about it.

`perplexity` measures running text; `tasks` measures examples with a right
answer, by the scores of `scoring` or by the distances of `text_metrics`.
`introspection` runs a model on a prompt and keeps attention and expectations;
`html_report` shows them as a page, `tensorboard` while a run trains. Pictures
are `figures`, drawn of runs by `run_figures`, of results by
`evaluation_figures`.
How fast a model is, and what it costs, is the matter of `profiling/`; whether
an export is right, of `conformance/`.
"""
