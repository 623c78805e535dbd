"""Which class of an image's objects is its label, for data sets that name a class for each object."""

from collections.abc import Sequence
from typing import Literal, get_args

from ..errors import CatalogError, did_you_mean
from .left_out import counted

Rule = Literal["largest", "first", "error"]
"""
largest  the class of the object of the largest area, of equal ones the first
first    the class of the object that comes first
error    all objects have one class, or the reading ends
"""


class ObjectLabels:
    """Chooses the labels of a data set's images by one rule, and counts where the rule mattered."""

    def __init__(self, label: str | None):
        """Raises CatalogError for a text that is no Rule; None is `largest`."""
        if label is not None and label not in get_args(Rule):
            raise CatalogError(f"--label {label}: no such rule{did_you_mean(label, get_args(Rule))}")
        self.rule = label or "largest"
        self._several = 0

    def of(self, objects: Sequence[tuple[int, float]], names: Sequence[str], place: str) -> int:
        """The label of an image with these objects, (class, area) each; -1 without any.

        names  of the classes; place: the image's, for the error
        """
        classes = {label for label, _ in objects}
        if len(classes) < 2:
            return next(iter(classes), -1)
        self._several += 1
        if self.rule == "error":
            shown = ", ".join(names[label] for label in sorted(classes))
            raise CatalogError(
                f"{place}: objects of several classes ({shown}), and an image has one label; "
                "--label largest or first chooses it"
            )
        return objects[0][0] if self.rule == "first" else max(objects, key=lambda item: item[1])[0]

    def notes(self) -> list[str]:
        if not self._several:
            return []
        which = "the largest object's" if self.rule == "largest" else "the first object's"
        have = "has" if self._several == 1 else "have"
        other = "first" if self.rule == "largest" else "largest"
        return [
            f"{counted(self._several, 'image')} {have} objects of several classes: the label is {which} "
            f"(--label {other} or error chooses otherwise)"
        ]
