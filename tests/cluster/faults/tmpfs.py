"""A small disk of its own for a store, to be filled up and to be made read-only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

INODES = 4000


class SmallDisk:
    def __init__(self, folder: Path):
        self.folder, self._ballast, self._files = folder, folder / "ballast", folder / "files"
        self._read_only = _read_only_view(folder)

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
        """Covers the disk with a read-only view of itself, or takes that away.

        A remount would be refused while any file is open for writing, as a build's lock is to its end. What is open for
        writing remains so, as on a disk that its kernel or its server makes read-only.
        """
        if read_only:
            _run("mount", "--bind", str(self._read_only), str(self.folder))
        else:
            _run("umount", "--lazy", str(self.folder))


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """None where this process may not mount one."""
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,nr_inodes={INODES}", "locloc-test", str(folder))
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    with ExitStack() as stack:
        stack.callback(_run, "umount", str(folder))
        stack.callback(os.sync)
        read_only = _read_only_view(folder)
        read_only.mkdir()
        _run("mount", "--bind", str(folder), str(read_only))
        stack.callback(_run, "umount", str(read_only))
        _run("mount", "-o", "remount,ro,bind", str(read_only))
        yield SmallDisk(folder)


def _read_only_view(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-read-only")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
