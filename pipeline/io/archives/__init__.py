"""Images inside tar, Parquet and Arrow files: their addresses, their bytes, and the index of a tar."""
