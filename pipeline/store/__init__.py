"""The versioned store: Icechunk transactions over Zarr v3 arrays.

`layout.py` says which arrays there are, `reader.py` opens published versions, `writer.py` makes new ones under the lock
of `lock.py`. Readers and writers meet only in what is written down in `layout.py`.
"""

from .reader import Version, list_versions, open_version

__all__ = ["Version", "list_versions", "open_version"]
