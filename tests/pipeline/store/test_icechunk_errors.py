"""Icechunk's errors, trees of a dozen wrapped lines, in one line that leaves nothing of the message out."""

import icechunk
import pytest

from locloc.pipeline.errors import StoreError
from locloc.pipeline.store.icechunk_errors import error_messages, first_message, icechunk_errors

# From icechunk 1.1.21, with a clock that was a day ahead (LD_PRELOAD) and then right again.
DRIFTED = """\
  x session error: snapshot timestamp is invalid, please verify if the machine clock has drifted: local clock: \
`2026-11-24 08:22:05.529242 UTC`, object store clock: `2026-11-23 08:22:05.530532110
  | UTC`
  |
  | context:
  |    0: icechunk::session::_commit
"""
OUT_OF_ORDER = """\
  x session error: invalid snapshot timestamp ordering. parent: `2026-11-24 08:22:05.060642 UTC`, child: \
`2026-11-23 08:22:15.407826 UTC`
  |
  | context:
"""

# From icechunk 1.1.21, with no inode left on the disk of a store with a long name.
FULL = """\
  x object store error Generic LocalFileSystem error: Unable to open file /disk/masks.store/chunks/HC9G#1: No space
  | left on device (os error 28)
  |\x20
  | context:
  |    0: icechunk::storage::object_store::write_chunk
  |            with id=HC9G
  |              at icechunk/src/storage/object_store.rs:500
  |\x20
  |-> object store error Generic LocalFileSystem error: Unable to open file /disk/masks.store/chunks/HC9G#1: No
  |   space left on device (os error 28)
  |-> Unable to open file /disk/masks.store/chunks/HC9G#1: No space left on device (os error 28)
  `-> No space left on device (os error 28)
"""
NO_SPACE = "Unable to open file /disk/masks.store/chunks/HC9G#1: No space left on device (os error 28)"


@pytest.mark.parametrize("error_text", [DRIFTED, OUT_OF_ORDER])
def test_clocks_that_differ_are_named_with_the_remedy(error_text):
    message = r"photos.store: the clock .* differs .* \(2026-11-24 08:22:05.* UTC, 2026-11-23 08:22:.* UTC\); synch"
    with pytest.raises(StoreError, match=message) as error, icechunk_errors("photos.store"):
        raise icechunk.IcechunkError(error_text)
    assert "\n" not in str(error.value)


def test_wrapped_lines_are_joined_in_every_message_of_the_tree():
    generic = f"object store error Generic LocalFileSystem error: {NO_SPACE}"
    assert error_messages(icechunk.IcechunkError(FULL)) == [
        generic, generic, NO_SPACE, "No space left on device (os error 28)",
    ]  # fmt: skip
    with pytest.raises(StoreError) as error, icechunk_errors("photos.store"):
        raise icechunk.IcechunkError(FULL)
    assert str(error.value) == f"photos.store: {generic}"


@pytest.mark.parametrize(
    "error, expected",
    [
        (icechunk.IcechunkError(FULL), f"object store error Generic LocalFileSystem error: {NO_SPACE}"),
        (icechunk.IcechunkError("  x \n  x disk full\n  |\n  | context:"), "disk full"),
        (icechunk.IcechunkError("disk full"), "disk full"),
        (icechunk.IcechunkError(""), "IcechunkError"),
        (OSError("\n  x of 3 files\nmore"), "x of 3 files"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_first_message_of_an_error(error, expected):
    assert first_message(error) == expected
