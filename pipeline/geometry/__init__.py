"""Resize and crop for pixels and boxes by one rule; boxes and their IoU."""
