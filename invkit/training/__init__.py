"""Training engine: seeds, checkpoints, resume, guards, several processes."""
