"""Folders of images: what is walked, which folders are splits and classes, and what is left out by rule."""
