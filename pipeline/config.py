"""The base of every settings class, and the one loader of TOML: files, built-in recipes, one-line errors."""

import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from .errors import LocLocError, RecipeError, did_you_mean

BOOL_FOR_NUMBER = "locloc_bool_for_number"

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Frozen, strict about names and hashable, so safe to send to a worker."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ADDED: ClassVar[frozenset[str]] = frozenset()
    """Fields that releases added: at their default they are no part of `identity`, so that fingerprints stay."""

    def identity(self) -> dict[str, Any]:
        """The settings as JSON values, for fingerprints."""
        fields = type(self).model_fields
        kept = {name for name in fields if name not in self.ADDED or getattr(self, name) != fields[name].default}
        content = self.model_dump(mode="json", include=kept)
        return content | {name: value.identity() for name, value in self if isinstance(value, Settings)}

    @model_validator(mode="before")
    @classmethod
    def _reject_bools(cls, values: Any) -> Any:
        """Rejects bools for fields that are not bool: pydantic reads true as 1.

        A validator of the model, since a field's own validator is not allowed on a union's discriminator.
        """
        for name, field in cls.model_fields.items() if isinstance(values, dict) else ():
            value = values.get(name)
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, bool) and field.annotation is not bool:
                    context = {"name": name, "value": str(item).lower()}
                    raise PydanticCustomError(BOOL_FOR_NUMBER, "a number or text, not {value}", context)
        return values


def read_toml(file: str | Path, title: str, raises: type[LocLocError]) -> dict[str, Any]:
    """The content of a TOML file.

    Raises `raises` with one line that begins with `title` ("Recipe mine.toml") for a file that cannot be read or is
    not TOML.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")  # Windows' editors write the mark
    except (OSError, UnicodeDecodeError) as error:
        raise raises(f"{title} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_toml(text, title, raises)


def parse_toml(text: str, title: str, raises: type[LocLocError]) -> dict[str, Any]:
    """As `read_toml`, for text."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise raises(f"{title} is not TOML: {error}") from None


@dataclass(frozen=True)
class BuiltinRecipes:
    """The recipes that ship with a package, as TOML files in its folder `recipes`."""

    package: str
    kind: str = "recipe"  # in messages

    @property
    def folder(self) -> Traversable:
        return resources.files(self.package).joinpath("recipes")

    def names(self) -> list[str]:
        files = (entry.name for entry in self.folder.iterdir())
        return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))

    def read(self, name_or_file: str) -> dict[str, Any]:
        """A built-in recipe by name, or a TOML file (see `is_recipe_file`). Raises RecipeError."""
        title = f"Recipe {name_or_file}"
        if is_recipe_file(name_or_file):
            return read_toml(name_or_file, title, RecipeError)
        if name_or_file not in (names := self.names()):
            known = did_you_mean(name_or_file, names)
            raise RecipeError(f"No {self.kind} {name_or_file!r}{known}; a file's name ends in .toml")
        return parse_toml(self.folder.joinpath(f"{name_or_file}.toml").read_text(encoding="utf-8"), title, RecipeError)

    def take_base(self, content: dict[str, Any], name_or_file: str) -> str | None:
        """Removes `base` from what `read` returned, and returns it: the built-in recipe that this one starts from.

        Raises RecipeError for a base that is no built-in recipe.
        """
        if (base := content.pop("base", None)) is None:
            return None
        if base not in (names := self.names()):
            known = did_you_mean(str(base), names)
            raise RecipeError(f"Recipe {name_or_file}: base: no built-in {self.kind} {base!r}{known}")
        return str(base)


def is_recipe_file(name_or_file: str) -> bool:
    """Whether this names a file: it has a `/` or ends in `.toml`."""
    return name_or_file.endswith(".toml") or "/" in name_or_file


def merge_settings(settings: type[Settings], content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`content` with `changes` on top, section by section, not yet validated.

    settings  the class that both will be validated as

    A section that names another variant, such as another `engine`, is replaced whole: the settings of one engine mean
    nothing to another.
    """
    merged = dict(content)
    for name, value in changes.items():
        old, field = merged.get(name), settings.model_fields.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            tag = field.discriminator if field else None
            if isinstance(tag, str) and value.get(tag, old.get(tag)) != old.get(tag):
                merged[name] = value
            else:
                merged[name] = merge_settings(_section(settings, [name]) if field else Settings, old, value)
        else:
            merged[name] = value
    return merged


def validate_settings(
    settings: type[SettingsT], content: dict[str, Any], title: str, raises: type[LocLocError], suggest: bool = True
) -> SettingsT:
    """`content` as frozen settings.

    suggest  name the closest setting, or all of the section, where there is no such one

    Raises `raises` with one line that begins with `title` and names the first setting that is wrong.
    """
    try:
        return settings.model_validate(content)
    except ValidationError as error:
        raise raises(f"{title}: {_first_error(error, settings if suggest else None)}") from None


def _first_error(error: ValidationError, suggest_from: type[Settings] | None) -> str:
    """The first setting that did not validate, by its dotted name, and why; the closest name where there is none."""
    first: Any = error.errors()[0]
    # Pydantic also names the branch of a union: `refine.opencv.iterations`, `saliency.heads.tuple[int, ...].0`.
    parts = [part for part in map(str, first["loc"]) if "[" not in part]
    if first["type"] == BOOL_FOR_NUMBER:
        parts.append(first["ctx"]["name"])
    if parts[:1] == ["refine"]:
        del parts[1:2]
    field = ".".join(parts) or "settings"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"no such setting{_suggestion(suggest_from, parts) if suggest_from else ''}"
    if first["type"].startswith("union_tag_"):
        discriminator = first["ctx"]["discriminator"].strip("'")
        if "tag" in first["ctx"]:
            message = f"no {discriminator} {first['ctx']['tag']!r}; there are {first['ctx']['expected_tags']}"
        else:
            message = f"'{discriminator}' has to be named, as in `locloc masks recipe`"
    rest = error.error_count() - 1
    return f"{field}: {message}" + (f" (and {rest} more)" if rest else "")


def _suggestion(settings: type[Settings], parts: list[str]) -> str:
    """The end of the line about a setting that does not exist; empty in a section of several variants."""
    if len(parts) > 1 and settings.model_fields[parts[0]].discriminator:
        return ""
    return did_you_mean(parts[-1], _section(settings, parts[:-1]).model_fields)


def _section(settings: type[Settings], path: list[str]) -> type[Settings]:
    """The settings class of a section by its path; fields are `Section` or `Section | None`."""
    for name in path:
        annotation: Any = settings.model_fields[name].annotation
        settings = next(part for part in (get_args(annotation) or (annotation,)) if part is not type(None))
    return settings


def settings_toml(settings: Settings) -> str:
    """Every setting as TOML that validates back to the same settings, its description as a comment above it."""
    return "\n".join(_sections(settings, ())).lstrip("\n") + "\n"


def _sections(settings: Settings, path: tuple[str, ...]) -> list[str]:
    lines, subsections = _lines(settings), []
    for name, value in settings:
        if isinstance(value, Settings):
            subsections += _sections(value, (*path, name))
    return (["", f"[{'.'.join(path)}]"] if path and lines else []) + lines + subsections


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
