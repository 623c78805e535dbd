"""Which of the paper's printed figures are reproduced."""

import pytest

from locloc.trainer.bench.printed import NOT, REPRODUCED, TYPO, rows, verdict


def test_verdicts(modules):
    figures = {(row.table, row.what): row for row in rows(list(modules.values()))}
    assert [key for key, row in figures.items() if row.verdict == NOT] == [
        ("2", "LocLoc total"), ("3", "LocLoc classifier"),
    ]  # fmt: skip
    assert [key for key, row in figures.items() if row.verdict == TYPO] == [
        ("1", "PPD classifier"), ("1", "LocLoc total"), ("2", "PPD total"),
    ]  # fmt: skip
    generators = figures["3", "generators, less"]
    assert generators.verdict == REPRODUCED and round(generators.in_full, 1) == -59.6
    assert "1.60 times" in generators.note


@pytest.mark.parametrize(
    ("printed", "values", "wanted"),
    [
        ("1.39", (1.39283872,), REPRODUCED),
        ("1.39", (2.8267, 1.3928), REPRODUCED),
        ("0.30", (0.3072,), REPRODUCED),  # cut, not rounded
        ("0.30", (0.29316,), TYPO),
        ("49.49", (49.3986, 49.39), TYPO),
        ("19", (20,), TYPO),
        ("13", (19,), NOT),
        ("7.50", (5121.45, None), NOT),
        ("16.76", (16.7556,), REPRODUCED),
        ("16.76", (26.76,), NOT),
    ],
)
def test_a_verdict_is_a_comparison(printed, values, wanted):
    assert verdict(printed, *values) == wanted
