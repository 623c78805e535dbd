"""locloc: object masks and boxes for images that only have class labels (after LocLoc, ACM MM 2023)."""

__version__ = "0.1.0.dev0"
