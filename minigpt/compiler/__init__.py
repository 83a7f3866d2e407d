"""How a function becomes machine code. Knows TensorFlow and XLA, no GPT."""
