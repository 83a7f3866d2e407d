"""Models and runs on the disk.

Here lives what is kept of a run (`workdir`: its folder and configuration;
`checkpoint`, `async_checkpointer`: the state of its training) and GPT-2 in the
formats that others publish (`huggingface`, `openai_gpt2`, on `tensor_mapping`).
`loading` is the only place that decides what kind of model a path holds. Not
here: how a run is begun or continued (`training.run_setup`), and SavedModels
(`serving`).
"""
