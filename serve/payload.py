"""Turns a request body into the bytes of its photos, whatever form the client chose.

raw image bytes · JSON {"inputs": X} or {"instances": [X, …]} · JSON lines of {"inputs": X}
where X is base64, URL-safe base64, a data URI, or base64 of base64 with line breaks.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson

JSON = "application/json"
JSON_LINES = "application/jsonlines"
JSON_LINES_NAMES = (JSON_LINES, "application/x-jsonlines", "application/jsonl")
_RAW = ("application/octet-stream", "application/x-image")
_KEYS = ("inputs", "instances", "top_k")
_DATA_URI = re.compile(rb"data:[\w/+.;=-]*;base64,", re.ASCII)
_BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/=_\s-]+", re.ASCII)
_WHITESPACE = b" \t\r\n\v\f"


class UnsupportedContentType(Exception):
    """The Content-Type is none we read."""


class BadPayload(Exception):
    """The body as a whole can't be read."""


class TooManyItems(Exception):
    """The body asks for more answers than one request may have."""


class Form(Enum):
    """How the answer is to be laid out."""

    ONE = auto()
    MANY = auto()
    LINES = auto()


@dataclass(frozen=True)
class Item:
    """One photo's bytes, or why there are none; `where` begins sentences about it."""

    where: str
    data: bytes = b""
    error: str | None = None


@dataclass(frozen=True)
class Payload:
    form: Form
    items: tuple[Item, ...]
    top_k: int | None = None


def read_payload(body: bytes, content_type: str, *, max_items: int) -> Payload:
    """Raises UnsupportedContentType, BadPayload, TooManyItems; a bad item is one with `error`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return _read_json(body, max_items)
    if kind in JSON_LINES_NAMES:
        return _read_lines(body, max_items)
    if kind.startswith("image/") or kind in _RAW:
        return Payload(Form.ONE, (Item("The body", body),))
    raise UnsupportedContentType(
        f"Content-Type {content_type!r} is not supported. "
        f"Send image/jpeg (or another image type), {', '.join(_RAW)}, {JSON} or {JSON_LINES}."
    )


def _read_json(body: bytes, max_items: int) -> Payload:
    fields = _parse(body, "The body", known=_KEYS)
    top_k = _top_k(fields)
    match fields:
        case {"inputs": list() as inputs}:
            return Payload(Form.MANY, _items("inputs", inputs, max_items), top_k)
        case {"inputs": value}:
            return Payload(Form.ONE, (_item("inputs", value),), top_k)
        case {"instances": list() as instances}:
            return Payload(Form.MANY, _items("instances", instances, max_items), top_k)
        case {"instances": _}:
            raise BadPayload(
                '"instances" must be a list of base64 texts. For one photo use "inputs".'
            )
    raise BadPayload('The JSON has neither "inputs" nor "instances". Send {"inputs": "<base64>"}.')


def _read_lines(body: bytes, max_items: int) -> Payload:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise BadPayload('The body has no lines. Send one {"inputs": "<base64>"} a photo.')
    _check_count("The body", len(lines), max_items)
    return Payload(Form.LINES, tuple(_line(number, text) for number, text in enumerate(lines, 1)))


def _line(number: int, text: bytes) -> Item:
    where = f"Line {number}"
    try:
        fields = _parse(text, where, known=("inputs",))
    except BadPayload as error:
        return Item(where, error=str(error))
    if "inputs" not in fields or isinstance(fields["inputs"], list):
        return Item(where, error=f'{where} must be {{"inputs": "<base64>"}}, one photo a line.')
    return _item(f"{where}: inputs", fields["inputs"])


def _parse(text: bytes, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadPayload(f"{where} is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise BadPayload(f'{where} must be a JSON object such as {{"inputs": "<base64>"}}.')
    unknown = next((key for key in fields if key not in known), None)
    if unknown is not None:
        raise BadPayload(
            f"{where} has the unknown key {unknown[:80]!r}. Known: {', '.join(known)}."
        )
    if "inputs" in fields and "instances" in fields:
        raise BadPayload(f'{where} has both "inputs" and "instances". Send one of them.')
    return fields


def _top_k(fields: dict[str, Any]) -> int | None:
    top_k = fields.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        got = _kind(top_k) if isinstance(top_k, list | dict) else repr(top_k)[:40]
        raise BadPayload(f'"top_k" must be a whole number of at least 1, got {got}.')
    return top_k


def _items(name: str, values: list[Any], max_items: int) -> tuple[Item, ...]:
    if not values:
        raise BadPayload(f'"{name}" is an empty list. Send at least one photo.')
    _check_count(f'"{name}"', len(values), max_items)
    return tuple(_item(f"{name}[{index}]", value) for index, value in enumerate(values))


def _check_count(where: str, count: int, max_items: int) -> None:
    if count > max_items:
        raise TooManyItems(
            f"{where} has {count} photos; the limit is {max_items} a request (SERVE_MAX_ITEMS)."
        )


def _item(where: str, value: Any) -> Item:
    if not isinstance(value, str):
        return Item(where, error=f"{where} must be a base64 text, got {_kind(value)}.")
    try:
        return Item(f"{where}, base64-decoded,", decode_base64(value.encode()))
    except ValueError as error:
        return Item(where, error=f"{where} {error}.")


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", int: "a number", float: "a number"}
    return kinds.get(type(value), "null" if value is None else "a boolean")


def decode_base64(text: bytes) -> bytes:
    """The bytes behind base64 in any of its forms, once or twice encoded; raises ValueError."""
    once = _decode_once(text)
    # No image is made of base64's letters alone, so what still is was encoded twice.
    return _decode_once(once) if _BASE64_TEXT.fullmatch(once) else once


def _decode_once(text: bytes) -> bytes:
    if prefix := _DATA_URI.match(text):
        text = text[prefix.end() :]
    plain = text.translate(bytes.maketrans(b"-_", b"+/"), _WHITESPACE).rstrip(b"=")
    if not plain:
        raise ValueError("is empty. Send the photo's bytes as base64")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64 ({error})") from None
