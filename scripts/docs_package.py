"""MkDocs hook: links the repository's root as `build/docs/locloc`, where mkdocstrings finds it as a package.

A link to the root itself would not do: mkdocstrings follows links, and the root may hold `.venv`.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def on_startup(command: str, dirty: bool) -> None:
    package = ROOT / "build" / "docs" / "locloc"
    package.mkdir(parents=True, exist_ok=True)
    for link in package.iterdir():
        link.unlink()
    for source in [*ROOT.glob("*.py"), ROOT / "pipeline", ROOT / "trainer"]:
        (package / source.name).symlink_to(source)
