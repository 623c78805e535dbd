"""What data sets in archives have in common: which files are shards, their splits, the fields of a sample."""
