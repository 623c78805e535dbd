"""Looks at versions: verify, diff, score, draw."""
