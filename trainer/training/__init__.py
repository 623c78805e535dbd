"""A training run: tasks, the loop, several processes, what a run leaves on disk."""
