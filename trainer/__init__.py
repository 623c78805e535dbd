"""Versioned masks in, models and numbers out. Uses only the reading side of `locloc.pipeline`, never the reverse."""
