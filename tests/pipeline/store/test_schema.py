"""How masks and reasons lie in the store: nothing is lost on the way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from locloc.pipeline.store.schema import ERROR_BYTES, pack_error, pack_masks, unpack_error, unpack_masks


@given(st.binary(min_size=1, max_size=4096))
def test_packing_masks_is_lossless(data):
    masks = np.frombuffer(data.ljust(-(-len(data) // 32) * 32, b"\0"), np.uint8).reshape(-1, 4, 8) % 2 == 1
    assert np.array_equal(unpack_masks(pack_masks(masks)), masks)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=400))
def test_errors_are_kept_up_to_their_length(text):
    kept = unpack_error(pack_error(text))
    assert text.startswith(kept)
    assert len(text.encode()) <= ERROR_BYTES or len(kept.encode()) > ERROR_BYTES - 4
    assert len(text.encode()) > ERROR_BYTES or kept == text
