"""Images in, versioned masks out. Start reading at `build/tasks.py`: one block of 64 images, from top to bottom."""
