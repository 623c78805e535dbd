"""What is read or written on this machine alone. pathlib folds the slashes of a URL: `file:///a` becomes `file:/a`."""

import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import LocLocError
from .fsspec_io import without_secrets

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def check_local(path: Path | str, said: str, kind: type[LocLocError]) -> None:
    """Raises `kind` for a URL. said: what it stands for, "--out" or "RUN"."""
    url = _URL.fullmatch(str(path))
    if url is None:
        return
    scheme, rest = url[1].lower(), url[2]
    if scheme == "file":
        local = "/" + rest.removeprefix("localhost/")
        raise kind(f"{said} {scheme}://{local} is a URL, and has to be a path: write {unquote(local)}")
    raise kind(f"{without_secrets(f'{said} {scheme}://{rest}')} is a URL; {said} has to be a path on this machine")
