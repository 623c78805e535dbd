"""Rows of a version as training data: splits, data sets, augmentation, cached features."""
