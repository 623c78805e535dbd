"""Training data from a version: splits, data sets, augmentation, batches, cached masks and features."""
