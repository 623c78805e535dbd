"""docs/data.md names every word, column and format that the readers know."""

import re
from pathlib import Path

import pytest

from locloc.pipeline.catalogs.lists.columns import LABEL_NAMES, PATH_NAMES, XYWH_NAMES
from locloc.pipeline.catalogs.lists.list import FORMATS
from locloc.pipeline.catalogs.lists.list_values import MISSING_WORDS
from locloc.pipeline.catalogs.registry import CATALOGS
from locloc.pipeline.catalogs.split_words import SPLIT_CODES, SPLITS

PAGE = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("split", SPLITS[1:])
def test_split_words(split):
    (row,) = re.findall(rf"^\| {split} \| (.*) \|$", PAGE, re.MULTILINE)
    assert row.split(", ") == [word for word, code in SPLIT_CODES.items() if SPLITS[code] == split]


def test_names_of_columns():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    assert {"path", *rows["path"].split(", ")} == PATH_NAMES
    assert {"label", *rows["label"].split(", ")} == LABEL_NAMES
    assert set(re.findall(r"`(\w+)`", rows["boxes"])) == XYWH_NAMES


def test_formats_and_words_for_a_missing_value():
    assert all(f"`{suffix}`" in PAGE for suffix in FORMATS)
    assert all(f"--catalog {name}" in PAGE for name in CATALOGS if name not in ("folder", "list"))
    (words,) = re.findall(r"in exactly this spelling: (.*)\.\n", PAGE)
    assert set(words.replace("`", "").split(", ")) == MISSING_WORDS
