"""The status of each image in a store. Stored as numbers, whose meaning must never change."""

from enum import IntEnum

from .errors import StoreError, check_known


class Status(IntEnum):
    PENDING = 0  # not processed yet; never in a published version
    OK = 1
    FALLBACK = 2  # done, but the mask is empty or the thresholded map; the row's error says why
    UNDECODABLE = 3  # the file was read but cannot be decoded as an image
    NON_FINITE = 4  # the backbone returned NaN or infinity
    MISSING = 5  # no file to read: missing, broken link, directory, no permission
    CRASHED = 6  # killed its worker process

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


def status_of(label: str) -> Status:
    """The status with this label. Raises StoreError for an unknown one."""
    labels = {status.label: status for status in Status}
    check_known(StoreError, "status", label, labels)
    return labels[label]


DONE = (Status.OK, Status.FALLBACK)
"""The statuses that count towards coverage."""


class Seen(IntEnum):
    """What an image was to the trained generator whose map its mask was made from."""

    UNKNOWN = 0  # or no generator drew a map
    UNSEEN = 1
    CHOSEN_ON = 2  # the run chose its weights and threshold on it
    TRAINED_ON = 3

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", " ")
