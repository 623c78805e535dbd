"""Faults for `test_faults.py`, and the processes and the disk that they need."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.campaign")  # failures show values, as in tests
