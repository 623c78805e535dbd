"""What `locloc predict` is asked for, files, folders, globs and URLs, as a list of images with names.

Names are the images' paths below the deepest folder that holds all that was given, so that no two are the same.
"""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from ...pipeline.catalogs.folder import is_image_name, list_images, walk_images
from ...pipeline.catalogs.paths import parse_location, resolve, to_text
from ...pipeline.errors import PredictError


@dataclass(frozen=True)
class InputImage:
    name: str  # with slashes, as text
    where: Path | str  # a path or a URL


def find_inputs(given: list[str]) -> list[InputImage]:
    """Every image once, in the order given; of a folder or glob by name.

    A file is taken whatever its name is, there or not: decoding says what is wrong with it. Of a folder, at any depth,
    or a glob those that have the name of an image. Raises PredictError for a folder or glob without any, CatalogError
    for one that cannot be read.
    """
    found: dict[Path | str, tuple[str, ...]] = {}
    roots = []
    for one in given:
        location = parse_location(one)
        root, files = _of_url(location) if isinstance(location, str) else _of_path(Path(os.path.abspath(location)))
        if not files:
            raise PredictError(f"{to_text(one)}: no image there; names of images end in .jpg, .png and the like")
        roots.append(_parts(root))
        found |= {file: _parts(file) for file in files}
    shared = 0
    while len({root[: shared + 1] for root in roots}) == 1 and shared < min(map(len, roots)):
        shared += 1
    return [InputImage(_name(parts[shared:]), where) for where, parts in found.items()]


def _of_url(url: str) -> tuple[str, list[str]]:
    """The folder that names begin at, and the files."""
    if is_image_name(url):
        return url.rpartition("/")[0], [url]
    if any(sign in url for sign in "*?["):
        raise PredictError(f"{url}: a URL takes no wildcards; name its folder")
    return url, [str(resolve(url, name)) for name in sorted(list_images(url))]


def _of_path(path: Path) -> tuple[Path, list[Path]]:
    text = str(path)
    if os.path.isdir(path):
        return path, _below(path)
    if os.path.lexists(path) or not glob.has_magic(text):
        return path.parent, [path]
    fixed = path
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    files = []
    for match in sorted(glob.glob(text, recursive=True)):
        if os.path.isdir(match):
            files += [] if "**" in text else _below(Path(match))
        elif is_image_name(match):
            files.append(Path(match))
    return fixed, files


def _below(folder: Path) -> list[Path]:
    return [resolve(folder, name) for name in sorted(walk_images(folder))]


def _parts(where: Path | str) -> tuple[str, ...]:
    return tuple(where.split("/")) if isinstance(where, str) else tuple(to_text(str(where)).split("/"))


def _name(parts: tuple[str, ...]) -> str:
    """Safe below a folder of ours: keys of an object store may hold dots, and a URL its colon."""
    safe = ("__" if part == ".." else part.removesuffix(":") for part in parts if part not in ("", "."))
    return "/".join(safe)
