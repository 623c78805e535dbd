"""What the top-level folders of a folder of images are: splits, classes, or neither. The rules are `read_folder`'s."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..left_out import counted
from ..split_words import SPLITS, is_unlabeled, split_code
from .mask_folders import is_image_folder

SHOWN = 4  # names in a note


@dataclass(frozen=True)
class Layout:
    """Splits by top-level folder; empty where top-level folders are classes.

    notes    what was reinterpreted, one line each
    holders  folders below the splits that hold all their images, such as `images`, and are no classes
    """

    splits: dict[str, int]
    notes: tuple[str, ...]
    holders: frozenset[str] = frozenset()

    def split(self, path: str) -> int:
        return self.splits.get(path.partition("/")[0], 0)

    def class_name(self, path: str) -> str:
        """The name of the class folder that an image is in; "" for none."""
        top, slash, rest = path.partition("/")
        if self.splits:
            if top not in self.splits:
                return ""
            top, slash, rest = rest.partition("/")
            if slash and top in self.holders:
                top, slash, _ = rest.partition("/")
        return top if slash and not is_unlabeled(top) else ""


@dataclass
class _Top:
    """A top-level folder."""

    images: int = 0
    in_subfolders: int = 0
    inside: set[str] = field(default_factory=set)  # names of the subfolders

    @property
    def is_nested(self) -> bool:
        return self.in_subfolders == self.images


@dataclass
class _Tops:
    folders: dict[str, _Top] = field(default_factory=lambda: defaultdict(_Top))
    loose: list[str] = field(default_factory=list)  # images in the folder itself


def layout_of(paths: Iterable[str]) -> Layout:
    """The layout of a folder with these images; a function of the paths alone."""
    tops = _Tops()
    for path in paths:
        name, slash, rest = path.partition("/")
        if slash:
            top = tops.folders[name]
            top.images += 1
            inside, slash, _ = rest.partition("/")
            if slash:
                top.in_subfolders += 1
                top.inside.add(inside)
        else:
            tops.loose.append(path)
    splits = {name: code for name in sorted(tops.folders) if (code := split_code(name))}
    unlabeled = {name: tops.folders[name].images for name in sorted(tops.folders) if is_unlabeled(name)}
    strays = {name: top for name, top in sorted(tops.folders.items()) if name not in splits and name not in unlabeled}
    if not _are_splits(splits, strays, tops):
        return Layout({}, tuple(_unlabeled_notes(unlabeled, "no label")))
    holders = _holders([tops.folders[name] for name in splits])
    notes = (
        *_word_notes(splits),
        *_holder_notes(holders),
        *_unlabeled_notes(unlabeled, "neither split nor label"),
        *_stray_notes(strays, tops),
    )
    return Layout(splits, notes, holders)


def _are_splits(splits: dict[str, int], strays: dict[str, _Top], tops: _Tops) -> bool:
    stray_images = len(tops.loose) + sum(top.images for top in strays.values())
    if not splits or not stray_images:
        return bool(splits)
    within = [tops.folders[name] for name in splits]
    if stray_images >= sum(top.images for top in within):
        return False
    classes_only_in_splits = all(top.is_nested for top in within) and not any(
        top.in_subfolders for top in strays.values()
    )
    return len(set(splits.values())) > 1 or not strays or classes_only_in_splits


def _holders(within: list[_Top]) -> frozenset[str]:
    """`images` in train/images/1.jpg, as YOLO and Roboflow have it: one folder in each split, named like all images."""
    inside = frozenset[str]().union(*(top.inside for top in within))
    one_each = all(len(top.inside) <= 1 for top in within)
    return inside if one_each and all(is_image_folder(name) for name in inside) else frozenset()


def _holder_notes(holders: frozenset[str]) -> list[str]:
    if not holders:
        return []
    names = ", ".join(f"{name}/" for name in sorted(holders))
    return [f"{names} below the splits {'holds' if len(holders) == 1 else 'hold'} all their images: no class"]


def _word_notes(splits: dict[str, int]) -> list[str]:
    """Which folders are which split, where a name is not the split's own."""
    notes = []
    if not all(name == SPLITS[code] for name, code in splits.items()):
        words = ", ".join(f"{name} is {SPLITS[code]}" for name, code in splits.items())
        notes.append(f"folders taken as splits: {words}")
    val = [name for name, code in splits.items() if SPLITS[code] == "val"]
    if len(val) > 1 and any(name.strip().lower().startswith("eval") for name in val) and len(set(splits.values())) < 3:
        notes.append(f"{' and '.join(val)} are both validation images; rename the one that you test on to test")
    return notes


def _unlabeled_notes(unlabeled: dict[str, int], what: str) -> list[str]:
    return [
        f"{counted(count, 'image')} in {name}/ {'has' if count == 1 else 'have'} {what}"
        for name, count in unlabeled.items()
    ]


def _stray_notes(strays: dict[str, _Top], tops: _Tops) -> list[str]:
    named = [f"{name}/ ({top.images})" for name, top in strays.items()] + sorted(tops.loose)
    if not named:
        return []
    count = len(tops.loose) + sum(top.images for top in strays.values())
    more = ", ..." if len(named) > SHOWN else ""
    have = "has" if count == 1 else "have"
    return [
        f"{counted(count, 'image')} beside the splits {have} neither split nor label: {', '.join(named[:SHOWN])}{more}"
    ]
