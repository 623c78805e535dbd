"""The shards of a data set: one file, all of a folder or URL, or a pattern such as `train-{0000..0999}.tar`."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TypeVar

from ...errors import CatalogError
from ...io.console import print_note
from ...io.fsspec_io import is_url, list_remote
from ..folders.walk import folder_left_out
from ..paths import parse_location, to_text
from ..roots import Root, below, common_folder, root_of_text, text_of_root
from ..split_words import split_code

THREADS = 8  # shards whose beginnings are read at once: of a bucket or a network's disk, each read waits
NOTE_EVERY_S = 10.0
MAX_EXPANDED = 1_000_000

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
T = TypeVar("T")


def find_shards(kind: str, images: Path | str, suffixes: Sequence[str]) -> tuple[Root, list[str]]:
    """The root of the shards, and their paths below it, sorted.

    images    a shard, or a folder or URL that holds shards at any depth, whose names end in one of `suffixes`; or a
              path or URL with {000..012} or {train,val} in it
    Hidden folders, and those that `walk.folder_left_out` names, are left out.

    Raises CatalogError: no shard is there, a pattern that is none, a folder that cannot be read.
    """
    text = str(images)
    if _BRACES.search(text) and not os.path.exists(text):
        return _in_common([parse_location(place) for place in expand_braces(text)])
    if text.lower().endswith(tuple(suffixes)) and not os.path.isdir(text):
        return _in_common([images])
    root = images if isinstance(images, str) else Path(os.path.abspath(images))
    names = _listed(root) if isinstance(root, str) else list(_walk(root))
    shards = sorted(
        name
        for name in names
        if name.lower().endswith(tuple(suffixes)) and not any(folder_left_out(part) for part in name.split("/"))
    )
    if not shards:
        raise CatalogError(
            f"A {kind!r} catalog is read from files that end in {' or '.join(suffixes)}; {to_text(text)} holds none"
        )
    return root, shards


def _in_common(places: list[Path | str]) -> tuple[Root, list[str]]:
    texts = [place if isinstance(place, str) else to_text(os.path.abspath(place)) for place in places]
    folders = {text.rpartition("/")[0]: None for text in texts}
    root = common_folder(list(folders))
    if root is None:
        raise CatalogError(f"Shards {texts[0]} and {texts[-1]} have no folder in common")
    names = [below(root, text.rpartition("/")[0]) + text.rpartition("/")[2] for text in texts]
    return root_of_text(root), sorted(names)


def _listed(url: str) -> list[str]:
    if url.startswith(("http://", "https://")):
        raise CatalogError(
            f"A web server lists no folder; name the shards by a pattern, such as {url}/train-{{0000..0099}}.tar"
        )
    try:
        return [to_text(name) for name in list_remote(url)]
    except OSError as error:
        raise CatalogError(f"Cannot read shards at {url}: {error}") from error


def _walk(root: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise CatalogError(f"Cannot read folder {to_text(str(error.filename))}: {error.strerror or error}") from error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=fail, followlinks=True):
        status, inside = os.stat(folder), os.path.relpath(folder, root)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above, or a second one to the same
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in files:
            yield to_text(name if inside == "." else f"{inside}/{name}")


def expand_braces(pattern: str) -> list[str]:
    """`a-{08..10}.tar` > a-08.tar, a-09.tar, a-10.tar; `{a,b}` > a, b; several braces are combined.

    Raises CatalogError for braces that hold neither, and for too many names.
    """
    parts = _BRACES.split(pattern)  # text, inside, text, inside, ..., text
    names = [""]
    for at, part in enumerate(parts):
        choices = [part] if at % 2 == 0 else _choices(part, pattern)
        if len(names) * len(choices) > MAX_EXPANDED:
            raise CatalogError(f"The pattern {pattern} names over {MAX_EXPANDED} shards")
        names = [name + choice for name in names for choice in choices]
    return names


def _choices(inside: str, pattern: str) -> list[str]:
    if match := _RANGE.fullmatch(inside):
        first, last = int(match[1]), int(match[2])
        if last < first or last - first >= MAX_EXPANDED:
            raise CatalogError(f"The pattern {pattern}: {{{inside}}} does not count from less to more")
        width = len(match[1]) if match[1].startswith("0") else 0
        return [str(number).zfill(width) for number in range(first, last + 1)]
    if "," in inside:
        return inside.split(",")
    raise CatalogError(f"The pattern {pattern}: braces hold 000..012 or a,b, not {inside!r}")


def split_of_shard(path: str) -> int:
    """Index into SPLITS of a shard's path: of the first folder named like a split, else of the one word of its name.

    `train/000.tar`, `imagenet-train-0001.tar`, `validation-00000-of-00014.parquet`. 0 where there is none, or where
    words of several splits are in the name.
    """
    *folders, name = path.split("/")
    for folder in folders:
        if code := split_code(folder):
            return code
    codes = {code for word in re.split(r"[-_.]", name) if word and (code := split_code(word))}
    return codes.pop() if len(codes) == 1 else 0


def read_ahead(read: Callable[[str], T], shards: Sequence[str]) -> Iterator[T]:
    """Yields `read(shard)` of each in order, while threads read up to THREADS further ones. Tells how far it is."""
    begun = told = monotonic()
    waiting: list[Future[T]] = []
    with ThreadPoolExecutor(THREADS) as threads:
        todo = iter(shards)
        try:
            waiting = [threads.submit(read, shard) for shard in islice(todo, THREADS)]
            done = 0
            while waiting:
                result = waiting.pop(0).result()
                waiting += [threads.submit(read, shard) for shard in islice(todo, 1)]
                yield result
                done += 1
                if monotonic() - told > NOTE_EVERY_S and done < len(shards):
                    told = monotonic()
                    rest_s = (told - begun) / done * (len(shards) - done)
                    print_note(
                        f"{done} of {len(shards)} shards read, some {rest_s:.0f} s to go; the next time is quick"
                    )
        finally:
            for future in waiting:
                future.cancel()


def place_of(root: Root, shard: str) -> str:
    """A shard's path or URL as text, for error lines."""
    folder = text_of_root(root)
    return f"{folder}{shard}" if folder.endswith("/") and not is_url(folder) else f"{folder}/{shard}"
