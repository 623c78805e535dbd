"""Names that are the same text in another Unicode normal form: `é` as one code point (NFC), or as `e` and an accent.

Linux keeps both names beside each other; macOS and some archives turn one into the other. Ids and paths are never
changed. Names are *compared* by `normal_form`, and a path that a list gives is looked for in any form (`find_on_disk`).
"""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def normal_form(text: str) -> str:
    """The text in NFC: equal for names that look the same."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def name_among(wanted: str, names: Iterable[str]) -> str | None:
    """`wanted` where it is one of the names, else the only one that is the same text in another form; else None."""
    alike = [name for name in names if name == wanted or normal_form(name) == normal_form(wanted)]
    return wanted if wanted in alike else alike[0] if len(alike) == 1 else None


def find_on_disk(root: Path, path: str) -> Path:
    """The file `path` (as the `os` functions take it) below `root`.

    The exact name has priority. Only where nothing has it, each name of the path may be in another normal form: NFC,
    then NFD, then, by listing the folder, any name of equal `normal_form`, the first one sorted. `root / path` where
    there is none.
    """
    exact = root / path
    if path.isascii() or os.path.lexists(exact):
        return exact
    found = root
    for name in path.split("/"):
        candidates = (name, normal_form(name), unicodedata.normalize("NFD", name))
        here = next((candidate for candidate in candidates if os.path.lexists(found / candidate)), None)
        here = here or _listed(found, normal_form(name))
        if here is None:
            return exact
        found = found / here
    return found


def _listed(folder: Path, wanted: str) -> str | None:
    try:
        return min((name for name in os.listdir(folder) if normal_form(name) == wanted), default=None)
    except OSError:  # the caller reads the exact name, and reports what is wrong
        return None
