"""Draws rows of a version: image, saliency map, trimap, mask with box, and ground truth, each in true proportions."""
