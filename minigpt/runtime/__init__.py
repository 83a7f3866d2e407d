"""The runtime of a process: what every command needs, whatever the model.

Flags and exit codes (`app`), guarded output streams (`output`), the set-up of
TensorFlow (`startup`, `malloc`), atomic files and folders (`atomic_io`), JSON
files (`json_io`), a lock per folder (`lock`), paths that TensorFlow misreads
(`literal_path`), and signals that ask the process to stop (`signals`).
"""
