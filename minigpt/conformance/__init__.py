"""Checks that an export, or the server that serves it, gives right answers.

A check asks a `subject.ModelUnderTest` through an endpoint and says in a line
what it found: `signature_checks` (names, shapes, batches), `input_checks` (bad
values and hard prompts), `generation_checks` (outputs against each other),
`parity_checks` (outputs against the trained model), `grammar_checks` (their
form). `report.run_checks` runs them all; `serving_session` and
`isolated_process` load an export as an unmodified TensorFlow Serving does;
`load_test` measures a server. How an export is written, and how a server is
asked, is in `serving/`.
"""
