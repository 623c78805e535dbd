"""Images and files in and out: decoders, remote files, signals."""
