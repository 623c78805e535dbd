"""Tables of the `masks` commands, on stdout."""
