"""JSON without the silent loss of values: a key that an object has twice is an error."""

from typing import Any


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of `json.loads`, which keeps the last of several values of a key by itself.

    Raises ValueError, which names the key.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice[:80]!r} twice")
    return found
