"""Do the images that a list names exist?"""

import os
import re
from dataclasses import replace

import numpy as np

from ...errors import CatalogError
from ..catalog import Catalog
from ..paths import resolve_file, to_text

SAMPLE = 1000


def check_presence(catalog: Catalog) -> Catalog:
    """Looks for SAMPLE images, evenly drawn; the catalog, with a note if some of them do not exist.

    A missing image is a row with the status `missing`; a list of which no image is found has a wrong root. Raises
    CatalogError then. Asks nothing of a root that is a URL.
    """
    if isinstance(catalog.root, str):
        return catalog
    rows = np.unique(np.linspace(0, len(catalog) - 1, min(len(catalog), SAMPLE)).astype(int))
    paths = catalog.table["path"].take(rows).to_pylist()
    missing = [path for path in paths if not os.path.exists(resolve_file(catalog.root, path))]
    if len(missing) == len(paths):
        shown = to_text(str(resolve_file(catalog.root, paths[0])))
        which = f"{len(paths)} of {len(catalog)} images" if len(paths) < len(catalog) else f"the {len(paths)} images"
        raise CatalogError(
            f"None of {which} listed exists; looked for {shown!r}{_hint(paths)}. "
            "Name the folder that the paths are relative to with --root; for absolute paths, --root OLD=NEW"
        )
    if not missing:
        return catalog
    note = f"{len(missing)} of {len(paths)} images looked for do not exist, such as {missing[0]!r}"
    return replace(catalog, notes=(*catalog.notes, note))


def _hint(paths: list[str]) -> str:
    """What is unusual about all these paths."""
    if all(re.match(r"[A-Za-z]:[/\\]", path) for path in paths):
        return " (these are paths of Windows; write them relative to the images' folder, with /)"
    if all("\\" in path for path in paths):
        return " (a backslash is part of a name here; write / in paths)"
    if all(path != path.strip() for path in paths):
        return " (the blanks around it are part of the name; a header with a blank after each comma leaves them out)"
    if all(path[:1] == path[-1:] and path[:1] in "'\"" for path in paths):
        return " (the quotes are part of the name here)"
    return ""
