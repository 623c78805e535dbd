"""Input and output that every room needs: decoders, remote and atomic files, console, progress, interrupts, machine."""
