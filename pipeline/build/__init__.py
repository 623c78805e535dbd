"""Builds versions: their specification, the coordinator, the workers' tasks, and isolation of images that crash."""
