"""Lists of images that are not where the list says."""

import pytest

from locloc.pipeline.catalogs.registry import read_catalog
from locloc.pipeline.errors import CatalogError


def read(tmp_path, *paths, root=None):
    (tmp_path / "l.csv").write_text("\n".join(["path", *paths]) + "\n")
    return read_catalog(tmp_path / "l.csv", root=root)


def test_a_few_that_are_missing_are_a_note(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert read(tmp_path, "a.jpg").notes == ()
    assert read(tmp_path, "a.jpg", "b.jpg").notes == ("1 of 2 images looked for do not exist, such as 'b.jpg'",)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["x/a.jpg", "x/b.jpg"], r"^None of the 2 images listed exists; looked for '{}/x/a.jpg'. Name the .* --root;"),
        (["/data/photos/a.jpg"], r"^None of the 1 images listed exists; looked for '/data/photos/a.jpg'. "),
        ([r"x\a.jpg", r"x\b.jpg"], r"\(a backslash is part of a name here; write / in paths\)"),
        ([r"C:\x\a.jpg", "D:/b.jpg"], "these are paths of Windows"),
        ([" a.jpg"], "the blanks around it are part of the name"),
        (["'a.jpg'"], "the quotes are part of the name here"),
        ([f"{number}.jpg" for number in range(3000)], "^None of 1000 of 3000 images listed exists; looked for"),
    ],
)
def test_none_of_them(tmp_path, paths, message):
    with pytest.raises(CatalogError, match=message.replace("{}", str(tmp_path))):
        read(tmp_path, *paths)


def test_a_root_by_url_is_not_asked(tmp_path):
    assert read(tmp_path, "a.jpg", root="memory://nowhere").notes == ()
