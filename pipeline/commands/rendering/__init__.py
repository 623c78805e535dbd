"""Tables that the `masks` commands print on stdout."""
