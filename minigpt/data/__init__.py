"""From text to batches.

Here lives all that stands between a file and the arrays that a training step
takes. Text comes from `sources` and is read by `text_files`, compressed or not
(`text_formats`); `vocabulary` learns from it. `windows` has the training
windows and their order, `batches` the batches for training and evaluation,
`jsonl` and `sequence_packing` prompts and completions. Tokens of text of any
size lie in token directories, read by `token_shards` and written by
`shard_writer` and `corpus` for `minigpt prepare`; `token_cache` does the like
for one run, and `token_file` reads a single file. `findings` remembers what was
checked.
`training_data` puts these together for a run, `measured_text` for an
evaluation. Not here: tokenizers, which know no files of text, and what a model
computes of a batch.
"""
