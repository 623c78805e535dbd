"""Images in, versioned masks out. Start reading at `block.py`: one block of 64 images, from top to bottom."""
