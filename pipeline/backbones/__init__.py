"""Frozen ViTs by timm name: their tokens, CLS attention and weights."""
