"""Checks that an export, or the server that serves it, gives right answers.

A check sends requests to a `subject.ModelUnderTest` through an endpoint, and
reports in one line. `signature_checks` check names, shapes and batches;
`input_checks` bad values and hard prompts; `generation_checks` compare outputs
with each other, `parity_checks` with the trained model; `grammar_checks` match
answers against grammars. `report.run_checks` runs them all. `serving_session`
and `isolated_process` load an export as an unmodified TensorFlow Serving does;
`load_test` measures a server. Exports and clients live in `serving`.
"""
