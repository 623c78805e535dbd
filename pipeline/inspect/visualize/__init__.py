"""Draws rows of a version: image, attention, trimap, mask with its box, and ground truth, each in true proportions."""
