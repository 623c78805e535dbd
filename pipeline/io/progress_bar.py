"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .console import err

PLAIN_EVERY_S = 5.0  # between the first plain lines; then ever longer, so that the log of a day can be read
PLAIN_SLOWER, PLAIN_AT_MOST_S = 1.25, 60.0


@dataclass(frozen=True)
class ProgressLine:
    """One state of the progress. `plain` is the line without a live bar; a `message` is printed at once."""

    description: str
    done: int
    total: int
    facts: str
    plain: str
    message: str = ""
    is_last: bool = False


@contextmanager
def progress_bar() -> Iterator[Callable[[ProgressLine], None]]:
    """Yields a function that shows a line: on the bar, or as plain text at growing intervals."""
    if not err.is_terminal:
        yield _PlainLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=err, transient=True, expand=True) as bar:
        task = bar.add_task("", total=None, facts="")

        def show(line: ProgressLine) -> None:
            bar.update(task, description=line.description, total=line.total, completed=line.done, facts=line.facts)
            if line.message:
                bar.console.print(f"[dim]{escape(line.message)}[/]")

        yield show


@contextmanager
def count_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields `show(done, total)` for commands with a known number of rows. Shows nothing without a terminal."""
    with Progress(*Progress.get_default_columns(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def duration(seconds: float) -> str:
    """`"2 h 05 min"`, `"3 min 07 s"` or `"12 s"`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest_s:02d} s" if minutes else f"{rest_s} s"


class _PlainLines:
    def __init__(self) -> None:
        self._next, self._every_s = 0.0, PLAIN_EVERY_S

    def __call__(self, line: ProgressLine) -> None:
        if line.message:  # says how far it is too
            err.print(escape(line.message))
            self._next = time.monotonic() + self._every_s
        elif line.is_last or time.monotonic() >= self._next:
            err.print(line.plain)
            self._next = time.monotonic() + self._every_s
            self._every_s = min(self._every_s * PLAIN_SLOWER, PLAIN_AT_MOST_S)
