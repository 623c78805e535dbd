"""The numbers of the paper's supplement (tables 1 to 3 and its two percentages), compared with the actual ones.

Only the printed numbers are constants here. Verdicts come from comparing them with counts and with the paper's sums:

    reproduced        a counter, or the paper's own arithmetic, gives the number, rounded or cut to the printed digits
    typo              none does, but the nearest value differs by one unit of the last digit, or by one small digit
    not reproducible  no value is near
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from .counts import MI, Count

REPRODUCED, TYPO, NOT = "reproduced", "typo", "not reproducible"

COUNTED = ("LFDM, 1000 classes", "PPD linear, 200 classes", "PPD decoder, 14 x 14", "GEG paper", "ViT")


@dataclass(frozen=True)
class Row:
    """One printed number."""

    table: str
    what: str
    printed: str
    paper_counter: float | None  # by the rules that ignore transposed convolutions, or the paper's own arithmetic
    in_full: float | None  # the actual value
    unit: str
    verdict: str
    note: str = ""


def rows(counts: list[Count]) -> list[Row]:
    """Every printed number. counts: of ViT-S/16, with LFDM for 1000 classes and PPD's linear layer for 200."""
    by_name = {count.module: count for count in counts}
    lfdm, linear, decoder, geg, vit = (by_name[name] for name in COUNTED)
    return _table_1(lfdm, linear, decoder, geg, vit) + _table_2() + _table_3(lfdm, linear, decoder, geg)


def _table_1(lfdm: Count, linear: Count, decoder: Count, geg: Count, vit: Count) -> list[Row]:
    def row(what: str, printed: str, parameters: int, parts: list[str] | None = None, note: str = "") -> Row:
        printed_sum = float(sum(map(Decimal, parts))) if parts else None
        true = parameters / MI
        return Row("1", what, printed, printed_sum, true, "2^20 parameters", verdict(printed, true, printed_sum), note)

    ppd, ours = (vit, linear, decoder), (vit, lfdm, geg)
    return [
        row("PPD backbone", "20.66", vit.parameters),
        row("PPD classifier", "0.30", linear.parameters),
        row("PPD generator", "16.76", decoder.parameters),
        row("PPD total", "37.72", _sum(ppd), ["20.66", "0.30", "16.76"], "the sum of its printed parts"),
        row("LocLoc classifier", "24.87", lfdm.parameters, note="with 1000 classes; CUB has 200"),
        row("LocLoc generator", "3.86", geg.parameters),
        row("LocLoc total", "49.49", _sum(ours), ["20.66", "24.87", "3.86"], "its printed parts sum to 49.39"),
        row("LocLoc over PPD", "12", _sum(ours) - _sum(ppd)),
    ]


def _table_2() -> list[Row]:
    def row(what: str, printed: str, computed: float, unit: str, note: str) -> Row:
        return Row("2", what, printed, computed, None, unit, verdict(printed, computed), note)

    return [
        row("PPD total", "19", 8 + 12, "s", "printed parts: 8 + 12"),
        row("LocLoc total", "13", 9 + 10, "s", "printed parts: 9 + 10"),
        row("less time", "31.58", 100 * (1 - 13 / 19), "%", "of the printed totals, which their parts contradict"),
    ]


def _table_3(lfdm: Count, linear: Count, decoder: Count, geg: Count) -> list[Row]:
    def row(what: str, printed: str, count: Count, scale: float, unit: str, note: str = "") -> Row:
        counter, true = count.paper_counter / scale, count.macs / scale
        return Row("3", what, printed, counter, true, unit, verdict(printed, true, counter), note)

    blind = "a transposed convolution counts zero"
    true = 100 * (1 - geg.macs / decoder.macs)
    return [
        row("PPD classifier", "0.30", linear, 1e6, "MMAC"),
        row("PPD generator", "1.39", decoder, 1e9, "GMAC", blind),
        row("LocLoc classifier", "7.50", lfdm, 1e6, "MMAC", "no counter gives it"),
        row("LocLoc generator", "0.25", geg, 1e9, "GMAC", blind),
        Row(
            "3", "generators, less", "82.01", 100 * (1 - 0.25 / 1.39), true, "%",
            verdict("82.01", true, 100 * (1 - 0.25 / 1.39)),
            f"by that counter alone: in full GEG costs {geg.macs / decoder.macs:.2f} times PPD's decoder",
        ),
    ]  # fmt: skip


def verdict(printed: str, *values: float | None) -> str:
    """The best verdict on a printed number, given the values that it could have come from."""
    verdicts = [_compare(printed, Decimal(repr(float(value)))) for value in values if value is not None]
    return min(verdicts, key=(REPRODUCED, TYPO, NOT).index)


def _compare(printed: str, value: Decimal) -> str:
    number = Decimal(printed)
    unit = Decimal(1).scaleb(-len(printed.partition(".")[2]))
    rounded = [value.quantize(unit, rounding) for rounding in (ROUND_HALF_UP, ROUND_DOWN)]
    if number in rounded:
        return REPRODUCED
    if any(abs(number - candidate) <= unit or _differ_by_one_digit(printed, str(candidate)) for candidate in rounded):
        return TYPO
    return NOT


def _differ_by_one_digit(printed: str, value: str) -> bool:
    """Whether they differ in one digit that is not a leading one: by at most a hundredth of the value."""
    one_digit = len(printed) == len(value) and sum(a != b for a, b in zip(printed, value, strict=True)) == 1
    return one_digit and 100 * abs(Decimal(printed) - Decimal(value)) <= Decimal(value)


def _sum(parts: tuple[Count, ...]) -> int:
    return sum(part.parameters for part in parts)
