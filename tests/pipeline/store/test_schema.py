"""The encoding of masks and errors in the store is lossless."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from locloc.pipeline.store.schema import ERROR_BYTES, pack_error, pack_masks, unpack_error, unpack_masks


@given(st.binary(min_size=1, max_size=4096))
def test_packing_masks_is_lossless(data):
    masks = np.frombuffer(data.ljust(-(-len(data) // 32) * 32, b"\0"), np.uint8).reshape(-1, 4, 8) % 2 == 1
    assert np.array_equal(unpack_masks(pack_masks(masks)), masks)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=400))
def test_errors_are_stored_up_to_their_maximum_length(text):
    stored = unpack_error(pack_error(text))
    assert text.startswith(stored)
    assert len(text.encode()) <= ERROR_BYTES or len(stored.encode()) > ERROR_BYTES - 4
    assert len(text.encode()) > ERROR_BYTES or stored == text
