"""griffe extension for the documentation: parameters in a docstring, a name and its text per line, become a list.

    name   text
    other  text, which may
           go on

Markdown would join these lines into one paragraph.
"""

import re
from typing import Any

import griffe

_ROW = re.compile(r"(\w[\w, *]*?) {2,}(\S.*)")


def with_lists(text: str) -> str:
    """A docstring with every paragraph of such lines as a Markdown list."""
    return "\n\n".join(_as_list(paragraph) or paragraph for paragraph in text.split("\n\n"))


def _as_list(paragraph: str) -> str | None:
    items: list[str] = []
    for line in paragraph.splitlines():
        if row := _ROW.fullmatch(line):
            items.append(f"* {', '.join(f'`{name}`' for name in row[1].split(', '))}: {row[2]}")
        elif items and line.startswith("  "):
            items[-1] += f" {line.strip()}"
        else:
            return None
    return "\n".join(items)


class ParameterLists(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)
