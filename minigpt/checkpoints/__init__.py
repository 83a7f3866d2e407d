"""Models and runs on the disk.

`workdir` holds a run's folder and configuration; `checkpoint` and
`async_checkpointer` hold its training state. `huggingface` and `openai_gpt2`,
on top of `tensor_mapping`, read GPT-2 in its published formats. `loading` alone
decides what kind of model a path holds. `training.run_setup` begins and
continues runs; SavedModels live in `serving`.
"""
