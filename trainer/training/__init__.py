"""Training runs: tasks, the training loop, distributed training, and the files of a run."""
