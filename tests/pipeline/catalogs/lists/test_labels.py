"""Labels as integers, names, numbers with a point, and words for none."""

from decimal import Decimal

import pytest

from locloc.pipeline.catalogs.lists.labels import Labels
from locloc.pipeline.errors import CatalogError

WHOLE = "labels with a decimal point, such as 1.0, are read as integers"


def read(*values):
    """Labels (N,), classes, notes."""
    from array import array

    labels = Labels()
    codes = array("i", [labels.code(value, line) for line, value in enumerate(values, 1)])
    found, classes = labels.resolve(codes, "l.csv:{}".format)
    return list(found), classes, labels.notes


@pytest.mark.parametrize(
    ("values", "labels", "notes"),
    [
        (["0", "2", ""], [0, 2, -1], []),
        (["0.0", "1.0", "", "2."], [0, 1, -1, 2], [WHOLE]),
        (["1", "1.0", "01"], [1, 1, 1], [WHOLE]),
        ([0.0, float("nan"), 3.0, None], [0, -1, 3, -1], [WHOLE]),
        ([None, float("nan")], [-1, -1], []),
        ([Decimal("2.0"), 1], [2, 1], []),
        (["1", "NaN", "NaN", "none"], [1, -1, -1, -1], ["no label: 'NaN' in 2 rows, 'none' in 1 row"]),
    ],
)
def test_integers(values, labels, notes):
    assert read(*values) == (labels, [], notes)


def test_words_for_none_among_names():
    labels, classes, notes = read("cat", "NA", "None", "nan", " null ", "<NA>", "ant")
    assert (labels, classes) == ([1, -1, -1, -1, -1, -1, 0], ["ant", "cat"])
    assert notes == ["no label: 'NA' in 1 row, 'None' in 1 row, 'nan' in 1 row, 'null' in 1 row, '<NA>' in 1 row"]


def test_a_class_that_is_called_none():
    labels, classes, notes = read("cat", "none", "none", "Null")
    assert (labels, classes) == ([1, 2, 2, 0], ["Null", "cat", "none"])
    assert notes == ["classes of these names: 'Null' in 1 row, 'none' in 2 rows; leave a label empty for none"]


@pytest.mark.parametrize(
    ("values", "classes"), [([True, False], ["False", "True"]), (["True", "True"], ["True"]), ([True], ["True"])]
)
def test_true_and_false_are_names(values, classes):
    assert read(*values)[1:] == (classes, [f"labels true and false are read as classes named {' and '.join(classes)}"])


@pytest.mark.parametrize("value", ["0.5", "1e3", "1,0", "-1", "-1.0", ".5", 2**31, 1e20, "1e+16", f"{'9' * 6000}.0"])
def test_numbers_that_are_no_label(value):
    with pytest.raises(CatalogError, match=r"^l.csv:2: label '.*' is neither an integer from 0 to"):
        read("1", value)


@pytest.mark.parametrize("value", [0.5, float("inf"), [3], {"a": 1}, b"\xff"])
def test_values_that_are_no_label(value):
    with pytest.raises(ValueError, match=r"^label .* is not an integer >= 0 or a class name"):
        read(value)


def test_an_integer_that_would_ask_for_a_huge_model():
    with pytest.raises(
        CatalogError, match=r"^l.csv:2: label 2000000000 in a list of 3 images .* write class names as t"
    ):
        read("0", "2000000000", "100001")
    assert read("100000", "0")[0] == [100_000, 0]
    assert max(read(*map(str, range(100_000, 120_000)))[0]) == 119_999


@pytest.mark.parametrize("value", ["cat", True])
def test_names_among_integers(value):
    with pytest.raises(CatalogError, match=r"^l.csv:2: label '.*', but those before it are integers; use one kind$"):
        read(1.0, value)


def test_a_decimal_comma_is_named():
    with pytest.raises(CatalogError, match="'1,0' is neither .*; write the number without a comma"):
        read("1,0")
