"""Lists the images of `locloc predict`'s arguments: files, folders, globs and URLs.

An image's name is its path below the deepest folder that holds all arguments, so names are unique.
"""

import difflib
import glob
import os
from dataclasses import dataclass
from pathlib import Path

from ...pipeline.catalogs.folders.walk import is_image_name, list_images, walk_images
from ...pipeline.catalogs.left_out import EVERY_KIND, Omissions, left_out_text
from ...pipeline.catalogs.paths import parse_location, resolve_file, to_text
from ...pipeline.errors import PredictError


@dataclass(frozen=True)
class InputImage:
    name: str  # with slashes, as text
    where: Path | str  # a path or a URL


def find_inputs(arguments: list[str], omissions: Omissions | None = None) -> list[InputImage]:
    """Lists each image once, in the order of the arguments; those of a folder or glob by name.

    A file is listed whatever its name is, even if it is missing beside others that are there: decoding reports what is
    wrong with it. A folder is searched at any depth; from a folder or glob only files named like images are taken.

    omissions  collects what folders hold besides, and folders below them that cannot be read

    Raises PredictError for a folder or glob without images, for what is missing and has no image's name, and where
    nothing of all is there; CatalogError for a folder that cannot be read.
    """
    omissions = omissions or Omissions()
    _check_present(arguments)
    images: dict[Path | str, tuple[str, ...]] = {}
    roots = []
    for argument in arguments:
        location = parse_location(argument)
        root: Path | str
        files: list[Path | str]
        if isinstance(location, str):
            root, files = _list_url(location, omissions)
        else:
            root, files = _list_path(Path(os.path.abspath(location)), omissions)
        if not files:
            left = left_out_text(omissions.found(), EVERY_KIND)
            raise PredictError(
                f"{to_text(argument)}: no image there; names of images end in .jpg, .png and the like"
                f"{left and f'; left out: {left}'}"
            )
        roots.append(_parts(root))
        images |= {file: _parts(file) for file in files}
    shared = 0
    while len({root[: shared + 1] for root in roots}) == 1 and shared < min(map(len, roots)):
        shared += 1
    return [InputImage(_name(parts[shared:]), where) for where, parts in images.items()]


def _check_present(arguments: list[str]) -> None:
    """Raises PredictError for a mistyped folder, and where every file is missing."""
    missing = [argument for argument in arguments if _is_missing(parse_location(argument))]
    unnamed = [argument for argument in missing if not is_image_name(argument)]
    if unnamed or (missing and len(missing) == len(arguments)):
        first = (unnamed or missing)[0]
        folder = Path(os.path.abspath(parse_location(first))).parent
        try:
            close = difflib.get_close_matches(os.path.basename(first.rstrip("/")), os.listdir(folder), n=1)
        except OSError:
            close = []
        hint = f"did you mean {to_text(close[0])!r}?" if close else "name images, folders or globs"
        raise PredictError(f"{to_text(first)}: no such file or folder; {hint}")


def _is_missing(location: Path | str) -> bool:
    return isinstance(location, Path) and not os.path.lexists(location) and not glob.has_magic(str(location))


def _list_url(url: str, omissions: Omissions) -> tuple[str, list[Path | str]]:
    """The folder that names are relative to, and the files."""
    if is_image_name(url):
        return url.rpartition("/")[0], [url]
    if any(sign in url for sign in "*?["):
        raise PredictError(f"{url}: a URL takes no wildcards; name its folder")
    return url, [str(resolve_file(url, name)) for name in sorted(list_images(url, omissions))]


def _list_path(path: Path, omissions: Omissions) -> tuple[Path, list[Path | str]]:
    text = str(path)
    if os.path.isdir(path):
        return path, _images_below(path, omissions)
    if os.path.lexists(path) or not glob.has_magic(text):
        return path.parent, [path]
    root = path
    while glob.has_magic(str(root)):
        root = root.parent
    files: list[Path | str] = []
    for match in sorted(glob.glob(text, recursive=True)):
        if os.path.isdir(match):
            files += [] if "**" in text else _images_below(Path(match), omissions)
        elif is_image_name(match):
            files.append(Path(match))
    return root, files


def _images_below(folder: Path, omissions: Omissions) -> list[Path | str]:
    return [resolve_file(folder, name) for name in sorted(walk_images(folder, omissions))]


def _parts(where: Path | str) -> tuple[str, ...]:
    return tuple(where.split("/")) if isinstance(where, str) else tuple(to_text(str(where)).split("/"))


def _name(parts: tuple[str, ...]) -> str:
    """A name that stays below the output folder: keys of an object store may hold `..`, and a URL its colon."""
    safe = ("__" if part == ".." else part.removesuffix(":") for part in parts if part not in ("", "."))
    return "/".join(safe)
