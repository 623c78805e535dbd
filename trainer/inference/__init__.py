"""Boxes, masks and classes for a user's own images."""
