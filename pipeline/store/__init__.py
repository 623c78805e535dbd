"""The versioned store: Icechunk transactions over Zarr v3 arrays.

`schema.py` defines the arrays, `reader.py` opens published versions, and `writer.py` builds new versions under the lock
of `lock.py`. Readers and writers share only the format in `schema.py`.
"""

from .reader import Version, open_version
from .versions import list_versions

__all__ = ["Version", "list_versions", "open_version"]
