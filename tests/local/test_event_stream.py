"""AWS's event stream, read by AWS's own client."""

import json

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from local.runtime import event_stream


@given(st.lists(st.binary(max_size=1000), max_size=5), st.integers(1, 64))
def test_parts_are_read_however_they_are_cut(parts: list[bytes], size: int) -> None:
    wire = b"".join(map(event_stream.payload_part, parts))
    buffer = EventStreamBuffer()
    read = []
    for start in range(0, len(wire), size):
        buffer.add_data(wire[start : start + size])
        read += list(buffer)
    assert [event.payload for event in read] == parts
    assert {event.headers[":event-type"] for event in read} <= {"PayloadPart"}


def test_an_exception_names_its_kind_and_its_members() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(event_stream.exception("ModelStreamError", Message="Größe", ErrorCode="a"))
    (event,) = list(buffer)
    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(event.payload) == {"Message": "Größe", "ErrorCode": "a"}
    assert event.to_response_dict()["status_code"] == 400


def test_a_changed_byte_is_noticed() -> None:
    wire = bytearray(event_stream.payload_part(b"a small dog"))
    wire[-6] ^= 1
    buffer = EventStreamBuffer()
    buffer.add_data(bytes(wire))
    with pytest.raises(ChecksumMismatch):
        list(buffer)
