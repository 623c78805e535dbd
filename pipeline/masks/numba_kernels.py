"""How kernels are compiled by Numba: at import, once a machine, kept on disk.

Numba keeps what it compiled in NUMBA_CACHE_DIR, if that is set; else beside the source, or, where that is read-only, in
the user's cache folder. Where none of them can be written or read, or a disk is full, every process compiles for
itself; forked ones share what their parent has.

Numba looks at a kernel's own file only to see whether what is kept is still true. So a kernel calls kernels of its own
file, and no others; `tests/pipeline/test_jit.py` holds them to it.
"""

from collections.abc import Callable

from numba import njit


def kernel(signature: str | None = None) -> Callable:
    """`njit` without the GIL, bit for bit reproducible (no fastmath). With a signature it is compiled here and now.

    One without is compiled into those that call it, and kept on disk as a part of them.
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
