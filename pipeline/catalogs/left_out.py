"""What a reader leaves out: counted and named, never dropped without a word."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, get_args

from ..io.formats import EXTRA_SUFFIXES

Kind = Literal["suffix", "folder", "file", "excluded", "unreadable", "box", "annotation"]
"""
suffix      files whose suffix is that of no image; `name` is the suffix in lower case, "" for none
folder      folders left out by their name; nothing below them is counted
file        files left out by their name
excluded    images left out by `--exclude`; `name` is the glob
unreadable  folders and links that cannot be examined; `name` is the system's reason
box         boxes that cannot be boxes; their images stay
annotation  annotations that cannot be read; their images stay
"""

NAMED = 3  # of one kind and name, the first that are named
DROPPED: tuple[Kind, ...] = ("suffix", "excluded", "unreadable", "box", "annotation")  # not by the rules for names
EVERY_KIND: tuple[Kind, ...] = get_args(Kind)
SUFFIXES = 24  # that are counted each; files with rarer ones are counted together
OTHER = "other"
HIDDEN_NAME = ".*"  # of files and folders whose names begin with a dot

# Suffixes of images that are not read as they are: left out, and worth a warning.
RAW = frozenset({
    ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".dng", ".orf", ".raf", ".rw2", ".rwl", ".pef",
    ".srw", ".x3f", ".3fr", ".fff", ".iiq", ".mrw", ".kdc", ".dcr", ".erf", ".mef", ".mos", ".gpr", ".raw",
})  # fmt: skip
OTHER_IMAGES = frozenset({
    ".jxl", ".jxr", ".wdp", ".hdp", ".svg", ".svgz", ".eps", ".exr", ".xcf", ".kra", ".psb", ".ai", ".flif", ".bpg",
    ".jls", ".djvu", ".dcm", ".dicom", ".mrxs", ".svs", ".ndpi", ".czi", ".lif", ".pdf",
})  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """One kind of omission."""

    kind: Kind
    name: str
    why: str
    count: int
    first: tuple[str, ...]  # paths below the root of the first few, sorted

    @property
    def is_image(self) -> bool:
        """True where these are images for a person, though not for this reader."""
        images = self.name in EXTRA_SUFFIXES or self.name in RAW or self.name in OTHER_IMAGES or not self.name
        return self.kind == "unreadable" or (self.kind == "suffix" and images)


class Omissions:
    """Collects what a reader leaves out."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Kind, str, str], int] = {}
        self._first: dict[tuple[Kind, str, str], list[str]] = {}

    def add(self, kind: Kind, name: str, path: str, why: str = "") -> None:
        """Counts one. path: below the root, or `file:line` of an annotation."""
        key = (kind, name, why)
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= NAMED:
            self._first.setdefault(key, []).append(path)

    def include(self, others: "Omissions", prefix: str) -> None:
        """Adds the omissions of a folder below the root: `prefix` is the way to it, such as `train/`."""
        for key, count in others._counts.items():
            first = self._first.setdefault(key, [])
            first += [prefix + path for path in others._first[key]][: NAMED - len(first)]
            self._counts[key] = self._counts.get(key, 0) + count

    def count(self, *kinds: Kind) -> int:
        return sum(count for (kind, _, _), count in self._counts.items() if kind in kinds)

    def first(self, *kinds: Kind) -> list[str]:
        """The first of these kinds with their reasons, for an error line."""
        named = (f"{path}: {why}" for (kind, _, why), paths in self._first.items() if kind in kinds for path in paths)
        return list(islice(named, NAMED))

    def found(self) -> tuple[LeftOut, ...]:
        """By kind in the order of `Kind`, the most frequent first."""
        every = [
            LeftOut(kind, name, why, count, tuple(sorted(self._first[kind, name, why])))
            for (kind, name, why), count in self._counts.items()
        ]
        return merge_left_out(every)


def merge_left_out(*groups: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """The sum of several catalogs' omissions, in the order of `Omissions.found`; rare suffixes become one, `other`."""
    total: dict[tuple[Kind, str, str], LeftOut] = {}
    for item in (item for group in groups for item in group):
        key = (item.kind, item.name, item.why)
        before = total.get(key)
        first = item.first if before is None else tuple(sorted({*before.first, *item.first})[:NAMED])
        total[key] = LeftOut(*key, item.count + (before.count if before else 0), first)
    ranked = sorted(
        total.values(), key=lambda item: (EVERY_KIND.index(item.kind), not item.is_image, -item.count, item.name)
    )
    suffixes = [item for item in ranked if item.kind == "suffix"]
    rare = suffixes[SUFFIXES:]
    if not rare:
        return tuple(ranked)
    rest = LeftOut("suffix", OTHER, "", sum(item.count for item in rare), rare[0].first)
    return (*suffixes[:SUFFIXES], rest, *ranked[len(suffixes) :])


def counted(count: int, noun: str, nouns: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def left_out_json(items: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """As provenance and `--json` keep them; `left_out_from_json` is the inverse."""
    return [{**asdict(item), "first": list(item.first)} for item in items]


def left_out_from_json(items: Iterable[dict[str, Any]]) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(item["kind"], item["name"], item["why"], item["count"], tuple(item["first"])) for item in items
    )


def images_left_out(items: Iterable[LeftOut]) -> int:
    """How many are images for a person: of formats that are not read, without a suffix, unreadable, excluded."""
    return sum(item.count for item in items if item.is_image or item.kind == "excluded")


def left_out_text(items: Iterable[LeftOut], kinds: Iterable[Kind] = DROPPED) -> str:
    """One line for a person: `5 .heic, 1 without a suffix, 2 that are no images (.csv, .txt); 3 by --exclude 'raw'`."""
    shown: dict[Kind, list[str]] = {}
    other_names, other_count = [], 0
    for item in items:
        if item.kind not in kinds:
            continue
        if item.kind == "suffix" and not item.is_image:
            other_count += item.count
            other_names.append(item.name)
            continue
        shown.setdefault(item.kind, []).append(_worded(item))
    if other_count:
        names = ", ".join(other_names[:4]) + (", ..." if len(other_names) > 4 else "")
        shown.setdefault("suffix", []).append(f"{other_count} that are no images ({names})")
    return "; ".join(", ".join(parts) for parts in shown.values())


def _worded(item: LeftOut) -> str:
    match item.kind:
        case "suffix":
            return f"{item.count} {item.name or 'without a suffix'}"
        case "excluded":
            return f"{item.count} by --exclude '{item.name}'"
        case "unreadable":
            return f"{item.count} unreadable ({item.name})"
        case "box":
            return f"{counted(item.count, 'box', 'boxes')} ({item.why})"
        case "annotation":
            return f"{counted(item.count, 'annotation')} ({item.why})"
        case "folder" | "file" if item.name == HIDDEN_NAME:
            return f"{counted(item.count, f'hidden {item.kind}')} (of a name that begins with a dot)"
        case "folder" | "file":
            return f"{item.count} {item.name} ({item.why})"
