"""Ground truth beside a data set: masks in folders of image files, and boxes held against their images."""
