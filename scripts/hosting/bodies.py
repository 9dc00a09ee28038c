"""A photo as the body of a request, in each of the forms that the server takes."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Form = Literal["raw", "json", "base64-url", "data-uri", "base64-twice", "jsonlines", "instances"]
FORMS: tuple[Form, ...] = get_args(Form)
RAW, JSON, JSON_LINES = "application/octet-stream", "application/json", "application/jsonlines"
# The forms with a place for the number of classes to answer.
WITH_TOP: tuple[Form, ...] = ("json", "base64-url", "data-uri", "base64-twice", "instances")


@dataclass(frozen=True)
class Body:
    data: bytes
    content_type: str


def body_of(photo: bytes, form: Form, top: int | None = None) -> Body:
    """`top`: classes to answer, where the form has a place for it; None: as the server is set."""
    if form == "raw":
        return Body(photo, RAW)
    if form == "jsonlines":
        return Body(_json({"inputs": _plain(photo)}) + b"\n", JSON_LINES)
    asked: dict[str, Any] = {} if top is None else {"top_k": top}
    if form == "instances":
        return Body(_json({"instances": [_plain(photo)], **asked}), JSON)
    return Body(_json({"inputs": TEXTS[form](photo), **asked}), JSON)


def _plain(photo: bytes) -> str:
    return base64.b64encode(photo).decode("ascii")


def _url(photo: bytes) -> str:
    return base64.urlsafe_b64encode(photo).decode("ascii")


def _data_uri(photo: bytes) -> str:
    return f"data:image/jpeg;base64,{_plain(photo)}"


def _twice(photo: bytes) -> str:
    """As the clients of the first days send it: with line breaks, too."""
    return base64.encodebytes(base64.b64encode(photo)).decode("ascii")


TEXTS: dict[Form, Callable[[bytes], str]] = {
    "json": _plain,
    "base64-url": _url,
    "data-uri": _data_uri,
    "base64-twice": _twice,
}


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()
