"""The result of an export."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Exported:
    """Summary of `locloc export`.

    files       names in `out`, in the order of use
    difference  largest difference between ONNX Runtime and torch; None: not compared
    notes       lines for the user: what is left to do, and what was not checked
    """

    run: str
    format: str
    out: str
    files: tuple[str, ...]
    bytes: int
    difference: float | None
    notes: tuple[str, ...]
