"""What is kept on disk: checkpoints, work directories, weights of others."""
