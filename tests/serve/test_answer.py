"""An answer has the layout the client asks for, and the one its request has otherwise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.answer import Entry, NotAcceptable, Refusal, choose_type, render
from serve.classifier import Prediction
from serve.payload import JSON, JSON_LINES, Form

REX: Entry = [Prediction("Rex's breed", 1, 0.75), Prediction("Müde", 0, 0.25)]
REX_JSON = [
    {"label": "Rex's breed", "index": 1, "probability": 0.75},
    {"label": "Müde", "index": 0, "probability": 0.25},
]
BAD: Entry = Refusal("instances[1] is empty.")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/csv, application/* ; q=0.1",
    ],
)
def test_a_client_without_a_wish_gets_what_fits_its_request(accept: str | None) -> None:
    assert choose_type(accept, Form.ONE) == JSON
    assert choose_type(accept, Form.MANY) == JSON
    assert choose_type(accept, Form.LINES) == JSON_LINES


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/jsonlines", JSON_LINES),
        ("application/x-jsonlines", JSON_LINES),
        ("application/jsonl", JSON_LINES),
        ("text/csv, application/json", JSON),
        ("application/json;q=0.5, application/jsonlines", JSON_LINES),
        ("application/json;q=0.5, application/jsonlines;q=0.4", JSON),
        ("application/jsonlines ; q=0.001 , text/csv", JSON_LINES),
        ("application/json;q=0, application/jsonlines;q=0.1", JSON_LINES),
        ("application/json;q=high, application/jsonlines;q=0.1", JSON_LINES),
    ],
)
@pytest.mark.parametrize("form", Form)
def test_the_most_wanted_type_is_chosen(accept: str, media_type: str, form: Form) -> None:
    assert choose_type(accept, form) == media_type


@pytest.mark.parametrize(
    "accept",
    ["text/csv", "application/json;q=0", "*/*;q=0", "application/json;q=nan", "json", ", ;"],
)
def test_what_cannot_be_written_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"can't be met. Ask for application/json or "):
        choose_type(accept, Form.ONE)


@given(st.text())
def test_any_accept_header_is_met_or_refused(accept: str) -> None:
    try:
        chosen = choose_type(accept, Form.ONE)
    except NotAcceptable:
        return
    assert chosen in (JSON, JSON_LINES)


def test_one_photo_is_one_object() -> None:
    answer = json.loads(render([REX], Form.ONE, JSON, "abc"))
    assert answer == {"predictions": REX_JSON, "model": "abc"}


def test_many_photos_are_a_list_in_which_a_bad_one_has_its_error() -> None:
    answer = json.loads(render([REX, BAD], Form.MANY, JSON, "abc"))
    entries = [{"predictions": REX_JSON}, {"error": "instances[1] is empty."}]
    assert answer == {"predictions": entries, "model": "abc"}


@pytest.mark.parametrize("form", Form)
def test_json_lines_are_an_object_a_line(form: Form) -> None:
    text = render([REX, BAD], form, JSON_LINES, "abc")
    assert text.endswith(b"\n")
    assert [json.loads(line) for line in text.splitlines()] == [
        {"predictions": REX_JSON, "model": "abc"},
        {"error": "instances[1] is empty.", "model": "abc"},
    ]


def test_lines_asked_for_as_json_are_a_list() -> None:
    answer = json.loads(render([REX], Form.LINES, JSON, "abc"))
    assert answer == {"predictions": [{"predictions": REX_JSON}], "model": "abc"}
