"""Processes that score recipes. Each keeps a part of the images, so that a trial is done by all of them together.

Images are dealt out like cards: the first k of all are nearly equal parts of every process's own.
"""

import importlib
import os
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ...errors import LocLocError
from ...io.clean_processes import clean_processes
from ...masks.grabcut import kernels_of
from ...masks.grabcut.engine import Engine
from ...recipe import REVISIONS, Recipe
from .images import DecodedImages, KeptImage


class Scorer:
    """Scores recipes on all images. `unreadable`: id and reason of images that are left out of every score."""

    def __init__(self, images: list[KeptImage], workers: "Sequence[_Worker]"):
        self._workers = workers
        self.unreadable: dict[str, str] = {}
        for worker in workers:
            self.unreadable |= worker.receive()
        self._usable = np.array([image.id not in self.unreadable for image in images], bool)

    @property
    def images(self) -> int:
        return int(np.count_nonzero(self._usable))

    def __call__(self, recipe: Recipe, start: int, stop: int) -> np.ndarray:
        """FIGURES `(stop - start, 5)` of the readable images from `start` to `stop`."""
        places = np.flatnonzero(self._usable)[start:stop]
        first, last = int(places[0]), int(places[-1]) + 1
        count = len(self._workers)
        # Of the places first to last - 1, process w has those that are w modulo the number of processes.
        parts = [(-(-(first - w) // count), -(-(last - w) // count)) for w in range(count)]
        for worker, part in zip(self._workers, parts, strict=True):
            worker.send((recipe, *part))
        found = np.full((last - first, 5), np.nan)
        for w, (worker, (begin, _)) in enumerate(zip(self._workers, parts, strict=True)):
            found[begin * count + w - first :: count] = worker.receive()
        return found[places - first]


@contextmanager
def scorer(
    images: list[KeptImage],
    root: Path | str,
    recipe: Recipe,
    workers: int,
    engines: Sequence[Engine],
    revisions: Mapping[str, int] = REVISIONS,
) -> Iterator[Scorer]:
    """Starts the processes, which read the images; one worker is this process itself.

    recipe     the version's, for how images are decoded
    engines    whose kernels are compiled here first, rather than by all processes at once
    revisions  of the stages that made the version

    Raises LocLocError if a process dies.
    """
    for name in {name for engine in engines for name in kernels_of(engine)}:
        importlib.import_module(name)
    count = max(1, min(workers, len(images)))
    parts = [(images[w::count], root, recipe, revisions) for w in range(count)]
    if count == 1:
        with _one_thread():
            yield Scorer(images, [_Here(*parts[0])])
        return
    started: list[_Process] = []
    try:
        for part in parts:
            started.append(_Process(*part))
        yield Scorer(images, started)
    finally:
        for process in started:
            process.stop()


class _Worker(Protocol):
    """Keeps some images; the first that it sends is which of them are unreadable."""

    def send(self, work: tuple[Recipe, int, int]) -> None: ...

    def receive(self) -> Any: ...


class _Here:
    """This process."""

    def __init__(self, images: list[KeptImage], root: Path | str, recipe: Recipe, revisions: Mapping[str, int]):
        self._images = DecodedImages(images, root, recipe, revisions)
        self._result: Any = self._images.unreadable

    def send(self, work: tuple[Recipe, int, int]) -> None:
        self._result = self._images.scores(*work)

    def receive(self) -> Any:
        return self._result


class _Process:
    """Another process. It ends when this one does, however that ends: its pipe is closed then."""

    def __init__(self, images: list[KeptImage], root: Path | str, recipe: Recipe, revisions: Mapping[str, int]):
        context = clean_processes()
        self._pipe, theirs = context.Pipe()
        read = (images, root, recipe, revisions)
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, *read), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, work: tuple[Recipe, int, int]) -> None:
        with self._dead_is_error():
            self._pipe.send(work)

    def receive(self) -> Any:
        with self._dead_is_error():
            result = self._pipe.recv()
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()

    @contextmanager
    def _dead_is_error(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            self._process.join(5)
            raise LocLocError(
                f"a process that scores trials ended (exit code {self._process.exitcode}; out of memory?); try fewer "
                "--workers"
            ) from None


def _serve(
    pipe: Connection, images: list[KeptImage], root: Path | str, recipe: Recipe, revisions: Mapping[str, int]
) -> None:
    """The loop of a process: sends the unreadable images, then the scores of each recipe that it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the process that started this one ends it
    cv2.setNumThreads(1)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # for torch, if an engine imports it
    with suppress(EOFError, ConnectionError):  # that process has gone
        try:
            decoded = DecodedImages(images, root, recipe, revisions)
            pipe.send(decoded.unreadable)
            while True:
                work = pipe.recv()
                pipe.send(decoded.scores(*work))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            error.add_note(traceback.format_exc())
            pipe.send(error)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
