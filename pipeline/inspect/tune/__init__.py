"""Searches saliency and refinement settings on the kept maps of a version, against ground truth; no ViT."""
