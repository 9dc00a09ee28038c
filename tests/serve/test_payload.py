"""Every form a client may choose ends in the photo's own bytes; every other in a sentence."""

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve.payload import (
    BadPayload,
    Form,
    Payload,
    TooManyItems,
    UnsupportedContentType,
    decode_base64,
    read_payload,
)
from tests.conftest import COLORS, jpeg

PHOTO = jpeg(COLORS["red"], size=(16, 16))


def encoded(photo: bytes) -> str:
    return base64.b64encode(photo).decode("ascii")


def original_client(photo: bytes) -> str:
    """Word for word what the client of the original project sends."""
    return base64.encodebytes(base64.b64encode(photo)).decode("ascii")


ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "base64": encoded,
    "URL-safe": lambda photo: base64.urlsafe_b64encode(photo).decode(),
    "no padding": lambda photo: encoded(photo).rstrip("="),
    "URL-safe without padding": lambda p: base64.urlsafe_b64encode(p).decode().rstrip("="),
    "line breaks": lambda photo: base64.encodebytes(photo).decode(),
    "Windows line breaks": lambda p: base64.encodebytes(p).decode().replace("\n", "\r\n"),
    "data URI": lambda photo: f"data:image/jpeg;base64,{encoded(photo)}",
    "data URI with parameters": lambda p: f"data:image/svg+xml;a=b;base64,{encoded(p)}",
    "data URI without a type": lambda photo: f"data:;base64,{encoded(photo)}",
    "the original client": original_client,
    "twice": lambda photo: encoded(encoded(photo).encode()),
    "twice, URL-safe": lambda p: base64.urlsafe_b64encode(base64.urlsafe_b64encode(p)).decode(),
    "a data URI of base64 of base64": lambda p: f"data:x/y;base64,{encoded(encoded(p).encode())}",
    "a base64 of lines": lambda photo: encoded(base64.encodebytes(photo)),
}
every_encoding = pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())


def read(body: bytes | str | object, content_type: str = "application/json") -> Payload:
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    return read_payload(body, content_type, max_items=4)


# Forms.


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg",
        "image/png",
        "image/x-anything",
        "IMAGE/JPEG",
        "image/jpeg; name=rex.jpg",
        " application/x-image ;charset=binary",
        "application/octet-stream",
    ],
)
def test_a_raw_body_is_the_photo(content_type: str) -> None:
    payload = read(PHOTO, content_type)
    assert payload.form is Form.ONE
    assert [item.data for item in payload.items] == [PHOTO]


@every_encoding
def test_inputs_is_one_photo(encode: Callable[[bytes], str]) -> None:
    payload = read({"inputs": encode(PHOTO)}, "application/json; charset=utf-8")
    assert (payload.form, payload.top_k) == (Form.ONE, None)
    assert [item.data for item in payload.items] == [PHOTO]


@pytest.mark.parametrize("name", ["inputs", "instances"])
def test_a_list_is_many_photos(name: str) -> None:
    payload = read({name: [encode(PHOTO) for encode in list(ENCODINGS.values())[:4]], "top_k": 2})
    assert (payload.form, payload.top_k) == (Form.MANY, 2)
    assert [item.data for item in payload.items] == [PHOTO] * 4


def test_a_list_of_one_photo_is_still_a_list() -> None:
    assert read({"instances": [encoded(PHOTO)]}).form is Form.MANY


@pytest.mark.parametrize(
    "content_type",
    ["application/jsonlines", "application/x-jsonlines; charset=utf-8", "application/jsonl"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n", ""])
def test_json_lines_are_a_photo_each(content_type: str, end: str) -> None:
    line = json.dumps({"inputs": encoded(PHOTO)})
    payload = read(f"{line}\n{line}{end}", content_type)
    assert payload.form is Form.LINES
    assert [item.data for item in payload.items] == [PHOTO] * 2


def test_of_a_key_given_twice_the_last_counts() -> None:
    payload = read(f'{{"inputs": "AAAA", "inputs": "{encoded(PHOTO)}"}}')
    assert payload.items[0].data == PHOTO


# Refusals of the whole request.


@pytest.mark.parametrize("content_type", ["text/csv", "", "imagejpeg", "multipart/form-data", "é"])
def test_a_foreign_content_type_is_refused(content_type: str) -> None:
    sentence = f"Content-Type {content_type!r} is not supported. Send image/jpeg (or another"
    with pytest.raises(UnsupportedContentType, match=re.escape(sentence)):
        read(PHOTO, content_type)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is not JSON: "),
        (b"{", "The body is not JSON: "),
        (b'{"inputs": "\xff"}', "The body is not JSON: "),
        (b'{"inputs": "\\ud800"}', "The body is not JSON: "),
        (b'{"inputs": NaN}', "The body is not JSON: "),
        (b"[" * 100_000, "The body is not JSON: "),
        (b"[]", 'The body must be a JSON object such as {"inputs": "<base64>"}.'),
        (b'"text"', 'The body must be a JSON object such as {"inputs": "<base64>"}.'),
        (b"{}", 'The JSON has neither "inputs" nor "instances". Send {"inputs": "<base64>"}.'),
        (b'{"top_k": 3}', 'The JSON has neither "inputs" nor "instances".'),
        (
            b'{"image": ""}',
            "The body has the unknown key 'image'. Known: inputs, instances, top_k.",
        ),
        (b'{"inputs": "", "instances": []}', 'The body has both "inputs" and "instances".'),
        (b'{"instances": "AAAA"}', '"instances" must be a list of base64 texts.'),
        (b'{"instances": []}', '"instances" is an empty list. Send at least one photo.'),
        (b'{"inputs": []}', '"inputs" is an empty list. Send at least one photo.'),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_json_that_is_no_request_is_refused(body: bytes, sentence: str) -> None:
    with pytest.raises(BadPayload, match=re.escape(sentence)):
        read(body)


@pytest.mark.parametrize(
    "top_k",
    ["0", "-1", "1.0", "true", '"5"', "[]", "{}", "[" * 1000 + "]" * 1000, "-9" + "0" * 17],
    ids=lambda text: text[:8],
)
def test_top_k_must_be_a_positive_whole_number(top_k: str) -> None:
    with pytest.raises(BadPayload, match='"top_k" must be a whole number of at least 1, got'):
        read(f'{{"inputs": "AAAA", "top_k": {top_k}}}')


@pytest.mark.parametrize("top_k", [1, 5, 2**63, 2**64 - 1])
def test_top_k_may_be_any_positive_whole_number(top_k: int) -> None:
    assert read({"inputs": "AAAA", "top_k": top_k}).top_k == top_k


def test_a_null_top_k_is_the_servers_own() -> None:
    assert read({"inputs": "AAAA", "top_k": None}).top_k is None


@pytest.mark.parametrize("content_type", ["application/json", "application/jsonlines"])
def test_too_many_photos_are_refused(content_type: str) -> None:
    many = {"instances": ["AAAA"] * 5} if content_type == "application/json" else None
    body = json.dumps(many) if many else '{"inputs": "AAAA"}\n' * 5
    with pytest.raises(TooManyItems, match=r"has 5 photos; the limit is 4 .*SERVE_MAX_ITEMS"):
        read(body, content_type)


def test_json_lines_without_a_line_are_refused() -> None:
    with pytest.raises(BadPayload, match="The body has no lines"):
        read(b"\n \n", "application/jsonlines")


# Refusals of one photo among others.


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "instances[1] must be a base64 text, got a number."),
        (7.5, "instances[1] must be a base64 text, got a number."),
        (None, "instances[1] must be a base64 text, got null."),
        (True, "instances[1] must be a base64 text, got a boolean."),
        ([0, 255], "instances[1] must be a base64 text, got a list."),
        ({"b64": "AAAA"}, "instances[1] must be a base64 text, got an object."),
        ("", "instances[1] is empty. Send the photo's bytes as base64."),
        ("data:image/jpeg;base64,", "instances[1] is empty."),
        ("====", "instances[1] is empty."),
        ("A", "instances[1] is not base64 ("),
        ("AA=A", "instances[1] is not base64 ("),
        ("Zürich", "instances[1] is not base64 ("),
        ("http://example.org/rex.jpg", "instances[1] is not base64 ("),
        (encoded(b"Zuric"), "instances[1] is not base64 ("),
    ],
    ids=lambda value: "" if isinstance(value, str) and "instances" in value else repr(value)[:16],
)
def test_a_bad_photo_does_not_cost_its_neighbours(value: object, sentence: str) -> None:
    first, bad, last = read({"instances": [encoded(PHOTO), value, encoded(PHOTO)]}).items
    assert (first.data, last.data) == (PHOTO, PHOTO)
    assert bad.error is not None
    assert bad.error.startswith(sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "Line 2 is not JSON: "),
        ("[]", "Line 2 must be a JSON object"),
        ('{"instances": ["AAAA"]}', "Line 2 has the unknown key 'instances'. Known: inputs."),
        ("{}", 'Line 2 must be {"inputs": "<base64>"}'),
        ('{"inputs": ["AAAA"]}', 'Line 2 must be {"inputs": "<base64>"}'),
        ('{"inputs": 7}', "Line 2: inputs must be a base64 text, got a number."),
    ],
)
def test_a_bad_line_does_not_cost_its_neighbours(line: str, sentence: str) -> None:
    good = json.dumps({"inputs": encoded(PHOTO)})
    first, bad, last = read(f"{good}\n{line}\n{good}", "application/jsonlines").items
    assert (first.data, last.data) == (PHOTO, PHOTO)
    assert bad.error is not None
    assert bad.error.startswith(sentence)


# Whatever the photo's bytes are.

# An image begins with a byte or a sign that base64 does not have.
photos = st.builds(
    bytes.__add__, st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM\0"]), st.binary()
)


@every_encoding
@given(photos)
@example(b"\xff\xd8\xff" + b"A" * 1000)
def test_every_encoding_is_undone(encode: Callable[[bytes], str], photo: bytes) -> None:
    assert decode_base64(encode(photo).encode()) == photo


@given(st.binary() | st.text().map(str.encode))
def test_any_text_is_decoded_or_refused(text: bytes) -> None:
    with suppress(ValueError):
        decode_base64(text)


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps),
    st.sampled_from(["image/png", "application/json", "application/jsonlines", "text/plain"]),
)
def test_any_body_is_read_or_refused(body: bytes | str, content_type: str) -> None:
    with suppress(BadPayload, TooManyItems, UnsupportedContentType):
        assert read(body, content_type).items
