"""Two catalogs > one: that of an existing version, and one of new images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CatalogError
from .catalog import SCHEMA, Catalog
from .folders.folder import folder_catalog
from .left_out import merge_left_out
from .paths import to_text
from .roots import Root, below, common_folder, root_of_text, text_of_root
from .split_words import SPLITS


def merge_catalogs(old: Catalog, new: Catalog) -> Catalog:
    """The union, sorted by id: kind of `old`, notes of `new`, rows of both, what both leave out.

    An image may be in both if its columns are equal.

    The ids of `old` stay. Where `new`'s root is `old`'s or lies below it, the root stays too, and `new`'s ids and paths
    are prefixed by the folders between. Otherwise the root becomes the deepest folder that holds both, and the paths of
    `old` are prefixed as well; an image of `new` that is a file of `old`, and whose id is only its path, is that image.

    Classes are matched by name and put into the order in which a reader finds them in the grown data set, so labels of
    `old` may change. If `old` and `new` are the catalogs of a data set before and after it grew, the union has the
    sha256 of the one after. In a catalog of kind `folder` the names of folders give class and split, so `new`'s are
    derived from its paths below `old`'s root; with a new root the kind is `list`, and each keeps what it had.

    Raises CatalogError: roots that do not fit, an image of both with another path, label, split or boxes, class names
    in one and bare integer labels in the other, over 2 GiB of text.
    """
    (root, old_prefix, prefix), given = _common_root(old, new), new
    kind = "list" if old.kind == "folder" and old_prefix else old.kind
    if prefix and not old_prefix and old.kind == new.kind == "folder":
        below_old = _with_prefix(new.table, prefix)["path"].to_pylist()
        new, prefix = folder_catalog(old.root, sorted({*old.table["path"].to_pylist(), *below_old})), ""
    classes, old_labels, new_labels = _merge_classes(old, new)
    ours = _with_prefix(_with_labels(old.table, old_labels), old_prefix, ("path",))
    theirs = _with_ids_of(ours, _with_prefix(_with_labels(new.table, new_labels), prefix))

    where_in_ours = pc.index_in(theirs["id"].chunk(0), ours["id"].chunk(0))
    is_known = where_in_ours.is_valid()
    _check_agreement(ours.take(where_in_ours.filter(is_known)), theirs.filter(is_known), classes)
    added = theirs.filter(pc.invert(is_known))
    known_rows = is_known.to_numpy(zero_copy_only=False)
    annotated_size = _concat_sizes(old, new, ~known_rows)
    try:
        table = pa.concat_tables([ours, added]).combine_chunks()
        order = pc.sort_indices(table["id"])
        table = table.take(order).combine_chunks()
    except pa.ArrowInvalid as error:
        raise CatalogError(f"The union of both catalogs does not fit into one: {error}") from error
    if any(column.num_chunks > 1 for column in table.columns):
        raise CatalogError("The union of both catalogs holds over 2 GiB of text; keep them as two stores")
    return Catalog(
        kind,
        root,
        table,
        classes,
        tuple(dict.fromkeys((*given.notes, *_root_notes(old, root)))),
        # A data set that has grown is read as a whole: what was left out then is left out again.
        merge_left_out(
            () if given.root == old.root and known_rows.sum() == len(ours) else old.left_out, given.left_out
        ),
        tuple(dict.fromkeys((*old.exclude, *given.exclude))),
        None if annotated_size is None else annotated_size[order.to_numpy()],
    )


def _common_root(old: Catalog, new: Catalog) -> tuple[Root, str, str]:
    """The root of the union, and what stands before paths of `old` and of `new` below it: "" or ends in a slash."""
    if (between := _between(old.root, new.root)) is not None:
        return old.root, "", between
    _refuse_moved(old, new)
    ours, theirs = (text_of_root(catalog.root) for catalog in (old, new))
    common = common_folder([ours, theirs])
    if common is None:
        raise CatalogError(
            f"The new images are at {theirs}, outside {ours} of the old ones, and a catalog has one root: "
            "put them (or links to them) below it, or write a list of both and build that"
        )
    return root_of_text(common), below(common, ours), below(common, theirs)


def _between(old: Root, new: Root) -> str | None:
    """The path from `old` to `new` as in ids, with a slash at its end; "" for equal roots, None if it is not below."""
    if isinstance(old, Path) and isinstance(new, Path):
        for ours, theirs in ((old, new), (old.resolve(), new.resolve())):
            if theirs.is_relative_to(ours):
                between = to_text(str(theirs.relative_to(ours)))
                return "" if between == "." else f"{between}/"
    elif isinstance(old, str) and isinstance(new, str) and f"{new}/".startswith(f"{old}/"):
        between = new[len(old) + 1 :]
        return f"{to_text(between)}/" if between else ""
    return None


def _refuse_moved(old: Catalog, new: Catalog) -> None:
    """Raises CatalogError where `new` looks like `old` at another place: they would be one data set twice."""
    if not isinstance(old.root, Path) or not isinstance(new.root, Path) or old.root.is_dir():
        return
    same = int(pc.sum(pc.is_in(new.table["id"], old.table["id"])).as_py() or 0)
    if same:
        raise CatalogError(
            f"The old images' folder {text_of_root(old.root)} is not there any more, and {same} images in "
            f"{text_of_root(new.root)} have the ids of old ones: if it was moved there, make a link to it at its old "
            "place; else build a store of its own"
        )


def root_notes(old: Catalog, new: Catalog) -> tuple[str, ...]:
    """A note if the root of the union is not `old`'s. Raises CatalogError for roots that do not fit."""
    return _root_notes(old, _common_root(old, new)[0])


def _root_notes(old: Catalog, root: Root) -> tuple[str, ...]:
    if text_of_root(root) == text_of_root(old.root):
        return ()
    return (f"the root is {text_of_root(root)} now, which holds old and new images; the old images keep their ids",)


def _merge_classes(old: Catalog, new: Catalog) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Class names of the union, and both catalogs' labels in it, `(N,) int32` each.

    Readers sort class names, except CUB's, which keeps the order of a file: there, new names follow the old ones.
    """
    labels = [catalog.table["label"].to_numpy() for catalog in (old, new)]
    bare = [not catalog.classes and bool((label >= 0).any()) for catalog, label in zip((old, new), labels, strict=True)]
    if any(bare):
        if old.classes or new.classes:
            numbers, names = ("old", "new") if bare[0] else ("new", "old")
            raise CatalogError(
                f"The {numbers} images are labelled by bare integers, the {names} ones by class names such as "
                f"{(old.classes or new.classes)[0]!r}; use one kind in both"
            )
        return (), *labels
    classes = _union(old.classes, new.classes)
    code = {name: label for label, name in enumerate(classes)}
    maps = (np.array([*(code[name] for name in catalog.classes), -1], np.int32) for catalog in (old, new))
    return (classes, *(to_union[label] for to_union, label in zip(maps, labels, strict=True)))


def _union(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    if list(old) == sorted(old) and list(new) == sorted(new):
        return tuple(sorted({*old, *new}))
    return (*old, *(name for name in new if name not in set(old)))


def _with_labels(table: pa.Table, labels: np.ndarray) -> pa.Table:
    return table.set_column(SCHEMA.get_field_index("label"), "label", pa.array(labels, pa.int32())).cast(SCHEMA)


def _with_prefix(table: pa.Table, prefix: str, columns: Sequence[str] = ("id", "path")) -> pa.Table:
    if not prefix:
        return table
    for name in columns:
        longer = pc.binary_join_element_wise(prefix, table[name].chunk(0), "")
        table = table.set_column(SCHEMA.get_field_index(name), name, longer)
    return table.cast(SCHEMA)


def _concat_sizes(old: Catalog, new: Catalog, added: np.ndarray) -> np.ndarray | None:
    """`annotated_size` of old's rows and of new's rows `added` `(N,) bool`; None where neither has any."""
    if old.annotated_size is None and new.annotated_size is None:
        return None
    ours, theirs = (
        np.zeros((len(catalog), 2), np.int32) if catalog.annotated_size is None else catalog.annotated_size
        for catalog in (old, new)
    )
    return np.concatenate([ours, theirs[added]])


def _with_ids_of(ours: pa.Table, theirs: pa.Table) -> pa.Table:
    """`theirs`, in which an image whose id is only its path has the id that this path has in `ours`."""
    if ours["id"].equals(ours["path"]):
        return theirs
    row = pc.index_in(theirs["path"].chunk(0), ours["path"].chunk(0))
    known = pc.and_(row.is_valid(), pc.equal(theirs["id"].chunk(0), theirs["path"].chunk(0)))
    ids = pc.if_else(known, ours["id"].chunk(0).take(pc.fill_null(row, 0)), theirs["id"].chunk(0))
    return theirs.set_column(SCHEMA.get_field_index("id"), "id", ids).cast(SCHEMA)


def _check_agreement(ours: pa.Table, theirs: pa.Table, classes: Sequence[str]) -> None:
    """Raises CatalogError unless two tables of the same ids are equal."""
    for column in SCHEMA.names[1:]:
        if ours[column].equals(theirs[column]):
            continue
        row = next(row for row in range(len(ours)) if ours[column][row] != theirs[column][row])
        before, now = (_shown_value(column, table[column][row].as_py(), classes) for table in (ours, theirs))
        raise CatalogError(
            f"Image {ours['id'][row].as_py()!r} is in both catalogs with another {column}: {before} in the old one, "
            f"{now} in the new; give the new one another id, or build a store of its own"
        )


def _shown_value(column: str, value: Any, classes: Sequence[str]) -> str:
    if column == "label":
        return "none" if value == -1 else repr(classes[value]) if classes else str(value)
    return repr(SPLITS[value]) if column == "split" else repr(value)[:200]
