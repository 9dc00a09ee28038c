"""Messages of application/vnd.amazon.eventstream, in which AWS streams answers.

Written as https://smithy.io/2.0/aws/amazon-eventstream.html describes them. Only what an answer
needs: headers that are texts, events and exceptions.
"""

import json
import struct
import zlib
from collections.abc import Mapping

MEDIA_TYPE = "application/vnd.amazon.eventstream"
TEXT = 7  # the type of a header's value


def payload_part(chunk: bytes) -> bytes:
    """The event with the next part of an answer."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return message(headers, chunk)


def exception(kind: str, **members: str) -> bytes:
    """An error in mid-stream, for example of "ModelStreamError"; the stream ends with it."""
    headers = {
        ":message-type": "exception",
        ":exception-type": kind,
        ":content-type": "application/json",
    }
    return message(headers, json.dumps(members).encode())


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Lengths and their checksum, headers, payload, and the checksum of all before it."""
    encoded = b"".join(_header(name, value) for name, value in headers.items())
    lengths = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    body = b"".join((lengths, struct.pack("!I", zlib.crc32(lengths)), encoded, payload))
    return body + struct.pack("!I", zlib.crc32(body))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", TEXT, len(text)) + text
