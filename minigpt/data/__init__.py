"""From text to batches.

This package turns files into the arrays of a training step.

Text: `sources` resolves data sets, `text_files` and `text_formats` read files,
`vocabulary` learns vocabularies from them, `jsonl` reads examples.
Tokens: `corpus` and `shard_writer` write token directories for `minigpt
prepare`, and `token_shards` reads them; `token_cache` keeps the tokens of a
run's text; `token_file` maps a single file; `findings` stores checks of files.
Batches: `windows` has the training windows and their order, `sequence_packing`
packs prompts and completions, `batches` forms batches. `training_data` combines
all this for a run, `measured_text` for an evaluation. Tokenizers live in
`tokenizers`.
"""
