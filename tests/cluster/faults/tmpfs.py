"""A small disk of its own for a store, to be filled up and to be made read-only."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

INODES = 4000


class SmallDisk:
    def __init__(self, folder: Path):
        self.folder, self._ballast, self._files = folder, folder / "ballast", folder / "files"

    @contextmanager
    def spoilt(self, how: str) -> Iterator[None]:
        """A disk that is "full", has no "inodes" left, or is "read-only"."""
        spoil, mend = {
            "full": (self.fill, self.free),
            "inodes": (self.use_up_inodes, self.free_inodes),
            "read-only": (lambda: self.set_read_only(True), lambda: self.set_read_only(False)),
        }[how]
        spoil()
        try:
            yield
        finally:
            mend()

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()

    def use_up_inodes(self) -> None:
        self._files.mkdir()
        with suppress(OSError):
            for number in range(INODES):
                (self._files / str(number)).touch()

    def free_inodes(self) -> None:
        shutil.rmtree(self._files)

    def set_read_only(self, read_only: bool) -> None:
        """Waits for a moment in which no file is open for writing: the kernel refuses it before."""
        deadline = time.monotonic() + 30
        while True:
            try:
                _run("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", str(self.folder))
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """None where this process may not mount one."""
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,nr_inodes={INODES}", "locloc-test", str(folder))
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        os.sync()
        _run("umount", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
