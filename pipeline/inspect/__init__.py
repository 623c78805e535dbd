"""Inspects versions: verify, diff, score, visualize."""
