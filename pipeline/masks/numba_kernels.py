"""Compiles Numba kernels at import, once per machine, with a cache on disk.

Numba caches compiled code in NUMBA_CACHE_DIR if that is set, else beside the source, or in the user's cache folder if
the source is read-only. If none of them is readable and writable, or the disk is full, every process compiles the
kernels again; forked processes share their parent's.

Numba validates a cached kernel by the kernel's own file only. So a kernel calls kernels of its own file and no others;
`tests/pipeline/masks/test_numba_kernels.py` checks it.
"""

from collections.abc import Callable

from numba import njit


def kernel(signature: str | None = None) -> Callable:
    """`njit` without the GIL, bit for bit reproducible (no fastmath).

    A kernel with a signature is compiled at once and cached; one without is compiled and cached as a part of its
    callers.
    """

    def compiled(function: Callable) -> Callable:
        if signature is None:
            return njit(nogil=True)(function)
        try:
            return njit(signature, nogil=True, cache=True)(function)
        except OSError:
            pass  # a full disk; on NFS also a file that another process replaced while it was read
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
        return njit(signature, nogil=True)(function)

    return compiled
