"""From text to batches.

Here lives all that stands between a file and the arrays that a training step
takes: where text comes from (`sources`), training windows and their order
(`windows`), batches for training and evaluation (`batches`), prompts and
completions (`jsonl`, `sequence_packing`), and token directories of any size,
read by `token_shards` and written by `shard_writer` and `corpus` for
`minigpt prepare`, and `token_cache`, which does the like for one run.
`findings` remembers what was checked. `training_data` puts these together for
a run. Not here: tokenizers, which know no files of text, and what a model
computes of a batch.
"""
