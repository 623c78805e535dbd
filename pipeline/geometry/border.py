"""The border of a token grid, where an object seldom lies."""


def border_width(height: int, width: int) -> int:
    """Of the border of a grid, in tokens: a sixteenth of the shorter side, at least one."""
    return max(1, round(min(height, width) / 16))
