"""The status of each image in a store. Stored as numbers, whose meaning must never change."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from .errors import StoreError, check_known


class Status(IntEnum):
    PENDING = 0  # not processed yet; never in a published version
    OK = 1
    FALLBACK = 2  # done, but the mask is empty or the thresholded map; the row's error says why
    UNDECODABLE = 3  # the file was read but cannot be decoded as an image
    NON_FINITE = 4  # the backbone returned NaN or infinity
    MISSING = 5  # no file to read: missing, broken link, directory, no permission
    CRASHED = 6  # killed its worker process
    REJECTED = 7  # has a mask that a person rejected (`masks decide`)

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


def status_of(label: str) -> Status:
    """The status with this label. Raises StoreError for an unknown one."""
    labels = {status.label: status for status in Status}
    check_known(StoreError, "status", label, labels)
    return labels[label]


DONE = (Status.OK, Status.FALLBACK)
"""The statuses that count towards coverage: rows that training, export and evaluation use."""

HAS_MASK = (*DONE, Status.REJECTED)
"""The statuses of rows whose mask is in the store."""


def usable_rows(status: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """`(N,) bool`: rows that training, export and evaluation use. status: `(N,) uint8`."""
    return np.isin(status, DONE)


def rejected_note(status: npt.NDArray[np.uint8], of: str) -> str | None:
    """The line that says that rejected rows are left out; None where there are none.

    of  what the rows are of: "photos.store@v2", or "the split test of photos.store@v2"
    """
    count = int(np.count_nonzero(status == Status.REJECTED))
    rows = "1 row is" if count == 1 else f"{count} rows are"
    return f"{rows} rejected in {of}, and left out (`locloc masks decide`)" if count else None


class Seen(IntEnum):
    """What an image was to the trained generator whose map its mask was made from."""

    UNKNOWN = 0  # or no generator drew a map
    UNSEEN = 1
    CHOSEN_ON = 2  # the run chose its weights and threshold on it
    TRAINED_ON = 3

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", " ")
