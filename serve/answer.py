"""Lays an answer out as the client's Accept header asks."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from serve.classifier import Prediction
from serve.payload import JSON, JSON_LINES, JSON_LINES_NAMES, Form


class NotAcceptable(Exception):
    """The Accept header admits nothing we can write."""


@dataclass(frozen=True)
class Refusal:
    """A photo among others that could not be answered, and why."""

    error: str


Entry = list[Prediction] | Refusal


def choose_type(accept: str | None, form: Form) -> str:
    """The media type to answer with: what is preferred, or what fits the request's form."""
    natural = JSON_LINES if form is Form.LINES else JSON
    for wanted in _by_preference(accept or "*/*"):
        if wanted in ("*/*", "application/*"):
            return natural
        if wanted == JSON:
            return JSON
        if wanted in JSON_LINES_NAMES:
            return JSON_LINES
    raise NotAcceptable(f"Accept {accept!r} can't be met. Ask for {JSON} or {JSON_LINES}.")


def render(entries: Sequence[Entry], form: Form, media_type: str, model: str) -> bytes:
    """One object for one photo, a list of objects for many, or one object a line."""
    objects = [_object(entry) for entry in entries]
    if media_type == JSON_LINES:
        return b"".join(orjson.dumps(o | {"model": model}) + b"\n" for o in objects)
    if form is Form.ONE:
        return orjson.dumps(objects[0] | {"model": model})
    return orjson.dumps({"predictions": objects, "model": model})


def _object(entry: Entry) -> dict[str, object]:
    if isinstance(entry, Refusal):
        return {"error": entry.error}
    return {"predictions": entry}


def _by_preference(accept: str) -> list[str]:
    """The media types of an Accept header, most wanted first (RFC 9110, section 12.5.1)."""
    weighted = []
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
        weighted.append((_weight(weights[0]) if weights else 1.0, media_type))
    return [name for weight, name in sorted(weighted, key=lambda pair: -pair[0]) if weight > 0]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
