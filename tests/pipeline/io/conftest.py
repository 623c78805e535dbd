"""Signals as in a terminal."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def hang_up_is_heard() -> Iterator[None]:
    """Tests that run under `nohup` inherit that SIGHUP is ignored, which commands respect."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
