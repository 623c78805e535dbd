"""The results of a check: JSON lines in OUT/results.jsonl, each with its step, what was measured and the values."""

import contextlib
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

_out: Path | None = None
_step = ""


def begin_step(out: Path, step: str) -> None:
    """Later lines of this process are written to `out`, under the name `step`."""
    global _out, _step
    out.mkdir(parents=True, exist_ok=True)
    _out, _step = out, step


def out_dir() -> Path:
    assert _out is not None
    return _out


def emit(what: str, **values) -> None:
    """Prints and writes one line. Floats are rounded to 5 digits.

    `failed` and `skipped` among the values, unless empty, say why there is no result.
    """
    rounded = {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in values.items()}
    line = json.dumps({"step": _step, "what": what, **rounded})
    print(line, flush=True)
    with (out_dir() / "results.jsonl").open("a") as file:
        file.write(line + "\n")


def lines_of(out: Path, step: str, start: int) -> list[dict]:
    """The lines of a step after the first `start` lines of all."""
    lines = map(json.loads, (out / "results.jsonl").read_text().splitlines()[start:])
    return [line for line in lines if line["step"] == step]


def line_count(out: Path) -> int:
    file = out / "results.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """A part of a step: an error in it is written as its result, and the step continues with the next part."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        emit(name, failed=f"{type(error).__name__}: {str(error)[:300]}")
