"""The version that a run was trained on, which may have been moved since."""

from pathlib import Path

from ...pipeline.errors import StoreError, TrainError
from ...pipeline.store import Version, open_version
from ...pipeline.store.repository import has_repository


def open_trained_version(name: str, run: Path | str, command: str) -> Version:
    """Opens the version that the run names. Raises StoreError; TrainError that names `command` if there is no store."""
    try:
        return open_version(name)
    except StoreError:
        store, _, _ = name.rpartition("@")
        if has_repository(store):
            raise
    raise TrainError(f"{run} was trained on {name}, which is not there; if the store was moved, name it: `{command}`")
