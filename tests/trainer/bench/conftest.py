"""Counts of all modules, computed once."""

import pytest

from locloc.trainer.bench import KEEP_TOKENS, SHARED_BLOCKS
from locloc.trainer.bench.counts import count_modules


@pytest.fixture(scope="session")
def modules():
    return {count.module: count for count in count_modules(200, KEEP_TOKENS, SHARED_BLOCKS)}
