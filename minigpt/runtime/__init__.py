"""What a process needs around its work, and no model.

Flags and exit codes (`app`), what is printed (`output`), preparing a process
for TensorFlow (`startup`, `malloc`), files that are never half-written
(`atomic_io`), one writer for a folder (`lock`), paths that TensorFlow would
misread (`literal_path`), and signals that ask for an end (`signals`).
"""
