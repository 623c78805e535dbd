"""One root for paths that lie in several places: the deepest folder that holds them all."""

import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from ..io.fsspec_io import is_url
from .paths import parse_location, to_os_path, to_text

Root = Path | str


def common_folder(folders: Collection[str]) -> str | None:
    """The deepest folder that holds all of the absolute `folders`, or all of these URLs; None if there is none.

    Both as text, without a slash at their end, except for the folder "/".
    """
    split = [folder.split("/") for folder in folders]
    parts = split[0]
    for other in split[1:]:
        same = next((at for at, (ours, theirs) in enumerate(zip(parts, other, strict=False)) if ours != theirs), None)
        parts = parts[: min(len(parts), len(other)) if same is None else same]
    if any(is_url(folder) for folder in folders):  # protocol, nothing, bucket
        return "/".join(parts) if len(parts) >= 3 and is_url("/".join(parts)) else None
    return "/".join(parts) or "/" if parts else None


def root_of_text(folder: str) -> Root:
    """A folder as text (see paths.py), or a URL > a catalog's root."""
    if is_url(folder):
        protocol, _, rest = folder.partition("://")
        return parse_location(f"{protocol}://{quote(rest, safe='/:@')}" if protocol in ("http", "https") else folder)
    exact = to_os_path(folder)
    return Path(exact if os.path.isdir(exact) else folder)


def text_of_root(root: Root) -> str:
    return root if isinstance(root, str) else to_text(str(root))


def below(root: str, folder: str) -> str:
    """The prefix of paths below `root` for what lies in `folder`, which is `root` or below it; as text."""
    between = folder[len(root) :].strip("/")
    return f"{between}/" if between else ""
