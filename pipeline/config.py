"""The base of every settings class: frozen, strict about names, hashable, and so safe to send to a worker."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

NO_NUMBER = "locloc_no_number"


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, given: Any) -> Any:
        """Pydantic takes true for 1. (A field's own validator could not be one of a union's discriminator.)"""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            values = given.get(name)
            for value in values if isinstance(values, list | tuple) else (values,):
                if isinstance(value, bool) and field.annotation is not bool:
                    raise PydanticCustomError(
                        NO_NUMBER, "a number or text, not {given}", {"name": name, "given": str(value).lower()}
                    )
        return given


def settings_toml(settings: Settings) -> str:
    """Every setting as TOML that validates back to the same settings, its description as a comment above it."""
    return "\n".join(_sections(settings, ())).lstrip("\n") + "\n"


def _sections(settings: Settings, path: tuple[str, ...]) -> list[str]:
    own, inner = _lines(settings), []
    for name, value in settings:
        if isinstance(value, Settings):
            inner += _sections(value, (*path, name))
    return (["", f"[{'.'.join(path)}]"] if path and own else []) + own + inner


def _lines(settings: Settings) -> list[str]:
    lines = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if not isinstance(value, Settings):
            if field.description:
                lines.append(f"# {field.description}")
            # Strings, numbers and lists of them are the same in TOML, but for surrogate pairs and a bare DEL.
            literal = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{name} = {literal}")
    return lines


def first_error(error: ValidationError) -> str:
    """The first thing that did not validate, by the name of its setting."""
    first: Any = error.errors()[0]
    # Pydantic also names the branch of a union: `refine.opencv.iterations`, `saliency.heads.tuple[int, ...].0`.
    parts = [part for part in map(str, first["loc"]) if "[" not in part]
    if first["type"] == NO_NUMBER:
        parts.append(first["ctx"]["name"])
    if parts[:1] == ["refine"]:
        del parts[1:2]
    field = ".".join(parts) or "settings"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such setting"
    if first["type"].startswith("union_tag_"):
        which = first["ctx"]["discriminator"].strip("'")
        if "tag" in first["ctx"]:
            message = f"no {which} {first['ctx']['tag']!r}; there are {first['ctx']['expected_tags']}"
        else:
            message = f"'{which}' has to be named, as in `locloc masks recipe`"
    rest = error.error_count() - 1
    return f"{field}: {message}" + (f" (and {rest} more)" if rest else "")
