"""`--only`: which rows a choice takes, and what it refuses."""

import numpy as np
import pytest

from locloc.pipeline.catalogs.catalog import CatalogRows, build_catalog
from locloc.pipeline.catalogs.row_filter import read_row_filter
from locloc.pipeline.errors import CatalogError

ROWS = [
    ("a/1.jpg", 0, 1), ("a/2.jpg", 0, 2), ("b/1.jpg", 1, 1), ("b/[x].jpg", 1, 3), ("c/é 1.jpg", 2, 0), ("d", -1, 1),
]  # fmt: skip
STATUS = np.array([1, 2, 1, 3, 1, 1], np.uint8)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    rows = CatalogRows()
    for image_id, label, split in ROWS:
        rows.add(image_id, image_id, label, split)
    return build_catalog(
        "list", tmp_path_factory.mktemp("images"), rows, ["cat", "big dog", "in"], where=lambda *_: "", looked_for=""
    )


@pytest.mark.parametrize(
    ("only", "numbers"),
    [
        ("split=train", [0, 2, 5]),
        ("split = Train or split==validation", [0, 1, 2, 5]),
        ("split=none", [4]),
        ("split!=train", [1, 3, 4]),
        ("class=cat", [0, 1]),
        ("class in (cat, 'big dog')", [0, 1, 2, 3]),
        ('class in ("big dog",in)', [2, 3, 4]),
        ("class not in (cat)", [2, 3, 4, 5]),
        ("split=train and class in (cat, 'in')", [0]),
        ("split=train and not class=cat", [2, 5]),
        ("class=cat or class='big dog' and split=train", [0, 1, 2]),
        ("(class=cat or class='big dog') and split=train", [0, 2]),
        ("not (class=cat or label=-1)", [2, 3, 4]),
        ("label in (0, 2)", [0, 1, 4]),
        ("id=a/*", [0, 1]),
        ("id=*1.jpg", [0, 2, 4]),
        ("id='c/é 1.jpg'", [4]),
        ("id=b/[x].jpg", [3]),  # an id is itself before it is a pattern
        ("id in (d, a/?.jpg)", [0, 1, 5]),
        ("status=ok", [0, 2, 4, 5]),
        ("status in (fallback, undecodable) and split!=test", [1]),
        ("split=train AND NOT class IN (cat)", [2, 5]),
        ("class Not In (cat) Or label=0", [0, 1, 2, 3, 4, 5]),
        ("((((split=train))))", [0, 2, 5]),
        ("not not not class=cat", [2, 3, 4, 5]),
        pytest.param(f"id in ({'x, ' * 3000}d)", [5], id="a long list"),  # longer than Python's stack is deep
        pytest.param(f"{'label=0 or ' * 3000}label=1", [0, 1, 2, 3], id="many ors"),
        pytest.param(f"{'label=0 and ' * 3000}split=train", [0], id="many ands"),
    ],
)
def test_what_is_chosen(catalog, only, numbers):
    assert np.flatnonzero(read_row_filter(only).rows(catalog, STATUS)).tolist() == numbers


@pytest.mark.parametrize(
    ("only", "complaint"),
    [
        (" ", "--only is empty; write a choice, such as split=train"),
        ("class in [cat]", "'[cat]' where ( should be"),
        ("label>1", "at character 1, no field 'label>1'; did you mean 'label'"),
        (
            "(" * 3000 + "split=train" + ")" * 3000,
            "at character 101, more than 100 brackets or `not` within each other",
        ),
        ("not " * 3000 + "split=train", "more than 100 brackets or `not` within each other"),
        ("splitt=train", "at character 1, no field 'splitt'; did you mean 'split'"),
        ("split=train and", "at character 16, it ends where a field should follow"),
        ("split=train class=cat", "at character 13, 'class' where `and` or `or` should be"),
        ("split=", "it ends before a value"),
        ("split=(train)", "at character 7, '(' where a value should be"),
        ("class in (cat", "it ends before )"),
        ("class (cat)", "at character 7, '(' where =, != or in should be"),
        ("class='cat", "at character 7, cannot be read"),
        ("split=trian", "--only split=trian: no such split; did you mean 'train'?"),
        ("class=cta", "--only class=cta: no such class; did you mean 'cat'?"),
        ("label=cat", "a label is a whole number"),
        ("status=okay", "no such status; did you mean 'ok'?"),
        ("split=train and class=cat and split=test", "none of 6 images"),
        ("__import__('os').system('true')", "no field '__import__'"),
    ],
)
def test_a_mistake_says_where_it_is(catalog, only, complaint):
    with pytest.raises(CatalogError) as caught:
        read_row_filter(only).rows(catalog, STATUS)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_a_status_is_of_a_store_alone(catalog):
    with pytest.raises(CatalogError, match="of no store"):
        read_row_filter("status=ok").rows(catalog)


def test_names_in_another_normal_form(tmp_path):
    """`é` as one code point, as people type it, and as two, as macOS writes names."""
    one, two = "\u00e9", "e\u0301"
    rows = CatalogRows()
    for image_id, label in ((f"{two}/1.jpg", 0), (f"{two}/2.jpg", 0), (f"both {one}", 1), (f"both {two}", 2)):
        rows.add(image_id, image_id, label)
    classes = [f"caf{two}", f"both {one}", f"both {two}"]
    catalog = build_catalog("list", tmp_path, rows, classes, where=lambda *_: "", looked_for="")

    def chosen(only):
        return np.flatnonzero(read_row_filter(only).rows(catalog)).tolist()

    assert chosen(f"class=caf{one}") == chosen(f"id='{one}/*'") == chosen("id='?/*'") == [2, 3]
    assert chosen(f"class='both {one}'") == [1] and chosen(f"class='both {two}'") == [0]
    assert chosen(f"id='both {two}'") == [0]
    file = tmp_path / "ids.txt"
    file.write_text(f"{one}/2.jpg\nboth {one}\n")
    assert chosen(str(file)) == [1, 3]
    file.write_text(f"{one}/3.jpg\n")
    with pytest.raises(CatalogError, match=r"ids.txt:1: no image has the id"):
        chosen(str(file))


def test_a_file_has_an_id_a_line(catalog, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_bytes("\ufeffa/1.jpg\r\n\r\nc/é 1.jpg\r\nd".encode())
    chosen = read_row_filter(str(file))
    assert np.flatnonzero(chosen.rows(catalog)).tolist() == [0, 4, 5]
    assert chosen.ids == ("a/1.jpg", "c/é 1.jpg", "d")
    file.write_text("a/1.jpg\nnone.jpg\nnor.jpg\n")
    with pytest.raises(CatalogError, match=r"ids.txt:2: no image has the id 'none.jpg' \(and 1 more\)"):
        read_row_filter(str(file)).rows(catalog)
    for content, complaint in ((b"\n", "is empty"), (b"\xff\xfe", "not UTF-8")):
        file.write_bytes(content)
        with pytest.raises(CatalogError, match=complaint):
            read_row_filter(str(file))
    with pytest.raises(CatalogError, match="cannot be read: no such file.* or a choice such as split=train"):
        read_row_filter(str(tmp_path / "none.txt"))
