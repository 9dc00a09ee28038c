"""kennel.toml and what flags put in its place, read into Settings."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from scripts.refusal import Refusal
from scripts.settings import Range, Settings

FILE = "kennel.toml"


def read_settings(file: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """The file (None: nothing but defaults), and over it `overrides`: values by dotted name, such
    as train.instance. Raises Refusal."""
    document = {} if file is None else _read(file)
    for name, value in overrides.items():
        _put(document, name, value)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise Refusal(_sentence(error, None if overrides else file)) from None


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    """With some values of a section replaced, checked as if they stood in the file; None leaves a
    value as it is. Raises Refusal."""
    document = settings.model_dump(exclude_unset=True)
    document[section] = {
        **document.get(section, {}),
        **{name: value for name, value in values.items() if value is not None},
    }
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise Refusal(_sentence(error, None)) from None


def parse_override(text: str) -> tuple[str, Any]:
    """`train.instance=ml.g5.xlarge`: the value as TOML reads it, else as text. Raises Refusal."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise Refusal(
            f"--set {text}: write SECTION.NAME=VALUE, such as train.instance=ml.g5.xlarge."
        )
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(
            f"{file} can't be read ({error.strerror}). Name another: --config FILE."
        ) from None
    except UnicodeDecodeError:
        raise Refusal(f"{file} is not UTF-8. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{file} is not TOML: {error}. Mend that line.") from None


def _put(document: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            raise Refusal(f"--set {name}: '{section}' is no section of {FILE}.")
        document = inner
    document[last] = value


def _sentence(error: ValidationError, file: Path | None) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    source = f"{file}: " if file else ""
    if detail["type"] == "extra_forbidden":
        return f"{source}Unknown setting '{where}'. {_hint(detail['loc'])}"
    value = "" if isinstance(detail["input"], dict) else f"={detail['input']!r}"
    reason = detail["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    return f"{source}{where}{value} can't be used: {reason}. {_description(detail['loc'])}".strip()


def _hint(place: tuple[str | int, ...]) -> str:
    fields = list(_model(place[:-1]).model_fields)
    near = difflib.get_close_matches(str(place[-1]), fields, n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(fields)}."


def _description(place: tuple[str | int, ...]) -> str:
    field = _model(place[:-1]).model_fields.get(str(place[-1])) if place else None
    return (field.description or "") if field else ""


def _model(place: tuple[str | int, ...]) -> type[BaseModel]:
    """The section at a place; of what lies in a mapping, the mapping's values."""
    model: type[BaseModel] = Settings
    for part in place:
        field = model.model_fields.get(str(part))
        if field is None:
            return Range
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return model
