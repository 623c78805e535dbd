"""WebDataset: images in tar shards, on disk or in a bucket, each with its label in a member of the same key."""

import re
from functools import partial
from pathlib import Path

import pyarrow as pa

from ..errors import CatalogError, ImageError
from ..io.archives.member import member_id, split_address, tar_address
from ..io.archives.tar_index import IndexRules, index_of
from .catalog import Catalog, CatalogRows, build_catalog
from .folders.walk import folder_left_out, hidden_file, is_image_name, suffix_of
from .left_out import Omissions
from .lists.labels import Labels
from .paths import refuse_root, resolve_file, to_text
from .roots import Root
from .shards.fields import TEXTS, FieldNotes, fields_of, text_of
from .shards.files import find_shards, place_of, read_ahead, split_of_shard

SUFFIXES = (".tar",)
PREFERRED = ("jpg", "jpeg", "png", "webp")
"""Of several images of one sample, the first of these is read; the others may be its mask."""

_BESIDE = "another image of its sample"
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # key, extension: as the webdataset package has them
_RULES = IndexRules("1", to_text, lambda name: _extension(name) in TEXTS, text_of)


def read_webdataset(images: Path | str, root: Path | str | None) -> Catalog:
    """The images of all tar shards of `images`, see `shards.files.find_shards`: local, or by URL.

    Members with the same name up to its first dot are a sample, whose image is the member that ends in an image's
    suffix (the first of PREFERRED where there are several). Its label is the text of `.cls`, else `label` (or another
    name that lists have for it) of `.json`; integers stay, names become their index among the sorted names. Split: of
    `.json`, else by `split_of_shard`. Boxes: `boxes` or `boxes_xywh` of `.json`, as in lists.

    id: the shard without .tar, and the member's name. path: an address, see `io.archives.member`, which reads the image
    with one access to its shard. The headers of a shard are read once; `tar_index` keeps them.

    Left out and counted: further images of a sample, members of other suffixes than images', hidden ones.

    Raises CatalogError, naming shard and member: a shard that cannot be read, is compressed or cut off, a link, a
    label or JSON that is broken or has no image, a member that is there twice. UnreachableError: the network failed.
    """
    refuse_root("webdataset", root)
    base, shards = find_shards("webdataset", images, SUFFIXES)
    rows, labels, omissions, notes = CatalogRows(), Labels(), Omissions(), FieldNotes()
    for shard, index in zip(shards, read_ahead(partial(_read_index, base), shards), strict=True):
        _add_shard(base, shard, index, rows, labels, omissions, notes)

    def at(row: int) -> str:
        shard, member = split_address(rows.paths[row])
        return f"{place_of(base, shard)}: member {member.partition('/')[2]!r}"

    rows.labels, classes = labels.resolve(rows.labels, at)
    unlabelled = (
        ["no .cls or .json gives a label; folders of members are no classes"] if max(rows.labels, default=0) < 0 else []
    )
    return build_catalog(
        "webdataset",
        base,
        rows,
        classes,
        where=lambda row, _: at(row),
        looked_for=f"no member of {len(shards)} tars such as {place_of(base, shards[0])} is named like one",
        notes=[*notes.lines(), *labels.notes, *unlabelled],
        left_out=omissions.found(),
    )


def _read_index(base: Root, shard: str) -> pa.Table:
    try:
        return index_of(resolve_file(base, shard), _RULES)
    except ImageError as error:
        raise CatalogError(f"Cannot read {place_of(base, shard)}: {error}") from error


def _add_shard(
    base: Root,
    shard: str,
    index: pa.Table,
    rows: CatalogRows,
    labels: Labels,
    omissions: Omissions,
    notes: FieldNotes,
) -> None:
    names, offsets, sizes, texts = (column.to_pylist() for column in index.columns)
    split, stem = split_of_shard(shard), shard[: -len(SUFFIXES[0])]
    samples: dict[str, dict[str, int]] = {}  # key > extension > number of the member
    for number, name in enumerate(names):
        match = _KEY.fullmatch(name)
        if _is_hidden(name, shard, omissions):
            continue
        if match is None or not (is_image_name(name) or _extension(name) in TEXTS):
            omissions.add("suffix", suffix_of(name), f"{stem}/{name}")
            continue
        members = samples.setdefault(match[1], {})
        if match[2] in members:
            raise CatalogError(f"{place_of(base, shard)}: member {name!r} is there twice")
        members[match[2]] = number
    for key, members in samples.items():
        images = [extension for extension in members if extension.lower() not in TEXTS]
        if not images:
            name = names[next(iter(members.values()))]
            raise CatalogError(
                f"{place_of(base, shard)}: member {name!r} belongs to no image: none is named {key!r} with an image's "
                "suffix"
            )
        chosen = _image_of(images, f"{place_of(base, shard)}: sample {key!r}")
        for other in images:
            if other != chosen:
                omissions.add("file", f".{other}", f"{stem}/{names[members[other]]}", _BESIDE)
        number = members[chosen]
        cls, record = (
            next((texts[at] for extension, at in members.items() if extension.lower() == kind), None) for kind in TEXTS
        )
        place = f"{place_of(base, shard)}: member {names[number]!r}"
        try:
            fields = fields_of(cls, record, notes)
            label = labels.code(fields.label, len(rows))
            path = tar_address(shard, offsets[number], sizes[number], names[number])
            image_id = member_id(path)
        except ValueError as error:
            raise CatalogError(f"{place}: {error}") from error
        rows.add(
            image_id,
            path,
            label,
            split if fields.split is None else fields.split,
            fields.boxes,
            fields.annotated_size,
        )


def _extension(name: str) -> str:
    """All after the first dot of a name, in lower case."""
    return name.rpartition("/")[2].partition(".")[2].lower()


def _is_hidden(name: str, shard: str, omissions: Omissions) -> bool:
    *folders, file = name.split("/")
    for folder in folders:
        if folder not in (".", "..") and (why := folder_left_out(folder)):
            omissions.add("folder", folder, f"{shard}/{name}", why)
            return True
    if file.startswith("."):
        rule, why = hidden_file(file)
        omissions.add("file", rule, f"{shard}/{name}", why)
        return True
    return False


def _image_of(extensions: list[str], sample: str) -> str:
    """The extension of the image to read."""
    if len(extensions) == 1:
        return extensions[0]
    whole = [extension for extension in extensions if "." not in extension]  # `seg.png` is of another kind than `png`
    by_preference = sorted(whole, key=lambda name: (_rank(name), name))
    if not whole or (len(whole) > 1 and _rank(by_preference[0]) == len(PREFERRED)):
        raise CatalogError(
            f"{sample} has images {', '.join(extensions)}, and none of {', '.join(PREFERRED)} says which one is meant"
        )
    return by_preference[0]


def _rank(extension: str) -> int:
    return PREFERRED.index(extension.lower()) if extension.lower() in PREFERRED else len(PREFERRED)
