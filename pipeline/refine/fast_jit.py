"""How the kernels of the engine `fast` are compiled: at import, once a machine, kept on disk.

Numba keeps what it compiled beside the source, or, where that is read-only, in NUMBA_CACHE_DIR or the user's cache
folder. Where none of them can be written, every process compiles for itself; forked ones share what their parent has.

Numba looks at a kernel's own file only to see whether what is kept is still true. So a kernel calls kernels of its own
file, and no others; `tests/pipeline/test_fast.py` holds them to it.
"""

from collections.abc import Callable

from numba import njit


def kernel(signature: str | None = None) -> Callable:
    """`njit` without the GIL, bit for bit reproducible (no fastmath). With a signature it is compiled here and now."""
    signatures = () if signature is None else (signature,)

    def compiled(function: Callable) -> Callable:
        try:
            return njit(*signatures, nogil=True, cache=True)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return njit(*signatures, nogil=True)(function)

    return compiled
