"""Signs that a data set is not what it was taken for: one line each, with the command or setting that mends it."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow.compute as pc

from ..io.formats import EXTRA_SUFFIXES
from .catalog import Catalog
from .folders.mask_folders import is_image_folder, is_mask_folder, is_split
from .left_out import LeftOut, counted, left_out_text
from .paths import to_text
from .split_words import looks_like_split, split_code
from .unicode_names import normal_form

SHOWN = 4
_MASK_OF_ANOTHER = r"(?i)[-_.](?:mask|masks|seg|segmentation|gt|label|annotation|matte|trimap)\.[a-z0-9]+\z"


def catalog_warnings(catalog: Catalog) -> Iterator[str]:
    """Yields the warnings of a catalog; reads nothing."""
    if catalog.kind == "folder":
        yield from _class_names(catalog.classes, "*/" if is_split(catalog) else "")
        inside = _folders_inside(catalog)
        yield from _splits_inside(catalog, inside) or _classes_inside(catalog, inside)
        yield from _masks_beside(catalog)
    yield from _equal_names("classes", catalog.classes, _folded, "letter case or Unicode normal form")
    unlike = {_folded(name): name for name in catalog.classes}.values()
    yield from _equal_names("classes", unlike, _without_blanks, "blanks")
    ids = catalog.table["id"]
    # A name in ASCII is its own normal form, and no other name has it.
    others = ids.filter(pc.invert(pc.string_is_ascii(ids))).to_pylist()
    yield from _equal_names("images", others, normal_form, "Unicode normal form")
    yield from _left_out(catalog.left_out, len(catalog))


def _class_names(classes: Sequence[str], above: str) -> Iterator[str]:
    alike = [name for name in classes if looks_like_split(name)]
    if alike and (len(alike) == len(classes) or len(alike) > 1 or any(split_code(name) for name in alike)):
        yield (
            f"taken for {_classes(alike)}, though named like a split; folders are splits where they are named train, "
            "val and test, and nothing else is beside them: --exclude leaves the rest out, and a list (csv) says "
            "anything"
        )
    if masks := [name for name in classes if is_mask_folder(name)]:
        yield (
            f"taken for {_classes(masks)}, though named like a folder of masks; "
            f"--exclude '{above}{masks[0]}' leaves it out"
        )
    if images := [name for name in classes if is_image_folder(name)]:
        yield (
            f"taken for {_classes(images)}, though named like a folder of all images; name that folder itself, or a "
            "list with labels, where it is no class"
        )


def _folders_inside(catalog: Catalog) -> dict[str, set[str]]:
    """The folders of a class that hold all its images, by class; none where the folder has splits."""
    if is_split(catalog):
        return {}
    paths = catalog.table["path"]
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pc.unique(pc.replace_substring_regex(paths, r"(?s)\A([^/]*/[^/]*/|[^/]*/).*\z", r"\1")).to_pylist():
        top, slash, name = pair.partition("/")
        if slash:
            inside[top].add(name.rstrip("/"))
    return inside


def _splits_inside(catalog: Catalog, inside: dict[str, set[str]]) -> list[str]:
    """Folders of splits in a folder of a class: the data set lies one level down, or each class has its own splits."""
    splits = {top: sorted(name for name in names if split_code(name)) for top, names in inside.items()}
    if not (found := [top for top in sorted(splits) if len({split_code(name) for name in splits[top]}) > 1]):
        return []
    return [
        f"folders named {', '.join(splits[found[0]])} lie inside {_classes(found)} and are not read as splits; "
        + (
            f"name {_below(catalog, found[0])} where that is the data set"
            if len(inside) == 1
            else "a list can say them"
        )
    ]


def _classes_inside(catalog: Catalog, inside: dict[str, set[str]]) -> list[str]:
    """Folders that may be the classes, one level below those that were taken for classes."""
    if not inside or any("" in names for names in inside.values()):
        return []
    shared = sorted(set.intersection(*inside.values()))
    shown = ", ".join(shared[:SHOWN]) + (", ..." if len(shared) > SHOWN else "")
    if len(inside) == 1 and len(shared) > 1:
        top = next(iter(inside))
        return [
            f"all images lie in class {top!r}, which holds folders {shown}; name {_below(catalog, top)} where those "
            "are the classes"
        ]
    if len(inside) > 1 and shared:
        return [
            f"every class holds folders of the same names ({shown}); where those are the classes, name the folders "
            "above them train, val and test, or write a list (csv)"
        ]
    return []


def _below(catalog: Catalog, name: str) -> str:
    return f"{to_text(str(catalog.root)).rstrip('/')}/{name}"


def _masks_beside(catalog: Catalog) -> Iterator[str]:
    paths = catalog.table["path"]
    is_named_so = pc.match_substring_regex(paths, _MASK_OF_ANOTHER)
    named_so = paths.filter(is_named_so).to_pylist()
    if not named_so:
        return
    stems = {os.path.splitext(path)[0] for path in paths.filter(pc.invert(is_named_so)).to_pylist()}
    masks = [path for path in named_so if re.sub(_MASK_OF_ANOTHER.replace(r"\z", r"\Z"), "", path) in stems]
    if masks:
        ending = "*" + re.search(_MASK_OF_ANOTHER.replace(r"\z", r"\Z"), masks[0])[0]  # type: ignore[index]
        yield (
            f"{counted(len(masks), 'image')} named like masks of others, such as {masks[0]}; where they are masks, "
            f"--exclude '{ending}' leaves them out"
        )


def _equal_names(what: str, names: Iterable[str], key: Callable[[str], str], differ_in: str) -> Iterator[str]:
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_key[key(name)].append(name)
    equal = [group for group in by_key.values() if len(group) > 1]
    if equal:
        shown = "; ".join(" and ".join(map(ascii_if_alike, group)) for group in equal[:SHOWN])
        more = f" and {len(equal) - SHOWN} more" if len(equal) > SHOWN else ""
        yield f"{what} whose names differ in {differ_in} only: {shown}{more}; they are kept apart"


def ascii_if_alike(name: str) -> str:
    """A name with its accents spelled out, so that two normal forms can be told apart in print."""
    return repr(name) if normal_form(name) == name else ascii(name)


def _folded(name: str) -> str:
    return normal_form(normal_form(name).casefold())


def _without_blanks(name: str) -> str:
    return "".join(_folded(name).split())


def _left_out(items: Sequence[LeftOut], images: int) -> Iterator[str]:
    of_extra: defaultdict[str, list[LeftOut]] = defaultdict(list)
    for item in items:
        if item.kind == "suffix" and item.name in EXTRA_SUFFIXES:
            of_extra[EXTRA_SUFFIXES[item.name]].append(item)
    nameless = [item for item in items if item.kind == "suffix" and not item.name and item.count >= 0.01 * images]
    others = [item for item in items if item.kind == "suffix" and item.name and item.is_image]
    converted = [item for item in others if item.name not in EXTRA_SUFFIXES]
    for extra, of in of_extra.items():
        yield f"left out: {left_out_text(of)}; `pip install locloc[{extra}]` reads them"
    if converted:
        yield f"left out: {left_out_text(converted)}; locloc does not read them: convert them to PNG or JPEG"
    for item in nameless:
        yield (
            f"left out: {counted(item.count, 'file')} without a suffix, such as {item.first[0]}; where they are "
            "images, name them in a list (csv)"
        )
    for item in items:
        if item.kind == "unreadable":
            what = counted(item.count, "folder or link", "folders or links")
            yield (
                f"left out: {what} unreadable ({item.name}), such as {item.first[0]}; mend the permissions, then "
                "build again"
            )
    for item in items:
        if item.kind in ("box", "annotation"):
            yield f"left out: {left_out_text([item])}, such as {'; '.join(item.first)}; the image stays"


def _classes(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(map(repr, names[:SHOWN]))}{more}"
