"""Seconds by stage, for reports of where time goes."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: Counter[str], stage: str) -> Iterator[None]:
    """Adds the wall time of the `with` block, in seconds, to `seconds[stage]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]  # the stubs know only int counts
