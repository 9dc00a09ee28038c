"""A transform job's input objects, split into records and packed into the bodies of requests."""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

Split = Literal["None", "Line", "RecordIO", "TFRecord"]

RECORDIO_MAGIC = 0xCED7230A
# The top three bits of RecordIO's length: a whole record, or the first, a middle, the last part
# of one whose data contains the magic, which stands between the parts.
WHOLE, FIRST, MIDDLE, LAST = range(4)
CRC32C_POLYNOMIAL = 0x82F63B78


class BadObject(Exception):
    """An object can't be sent as the job asks; the sentence says why."""


@dataclass(frozen=True)
class Record:
    """One record: its data, and how it stands in the object. `original` is what it was made of."""

    data: bytes
    framed: bytes
    original: bytes = b""


@dataclass(frozen=True)
class Payload:
    """The body of one request and the originals of the records in it."""

    body: bytes
    originals: tuple[bytes, ...] = ()


def records(file: BinaryIO, split: Split, limit: int | None) -> Iterator[Record]:
    """Raises BadObject, also for a record of more bytes than the limit, which is not read."""
    return _READERS[split](file, limit)


def pack(found: Iterable[Record], *, single: bool, limit: int | None) -> Iterator[Payload]:
    """One record's data a payload, or as many records as fit, as they stand. Raises BadObject."""
    if single:
        for record in found:
            _check_size(len(record.data), limit)
            yield Payload(record.data, (record.original,))
        return
    batch: list[Record] = []
    size = 0
    for record in found:
        _check_size(len(record.framed), limit)
        if batch and limit is not None and size + len(record.framed) > limit:
            yield _together(batch)
            batch, size = [], 0
        batch.append(record)
        size += len(record.framed)
    if batch:
        yield _together(batch)


def _together(batch: list[Record]) -> Payload:
    return Payload(
        b"".join(record.framed for record in batch), tuple(record.original for record in batch)
    )


def _whole(file: BinaryIO, limit: int | None) -> Iterator[Record]:
    body = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(body) > limit:
        raise _too_large("The object", limit)
    yield Record(body, body, body)


def _lines(file: BinaryIO, limit: int | None) -> Iterator[Record]:
    while line := file.readline() if limit is None else file.readline(limit + 1):
        if limit is not None and len(line) > limit:
            raise _too_large("A line", limit)
        yield Record(line, line, line)


def _recordio(file: BinaryIO, limit: int | None) -> Iterator[Record]:
    """MXNet's format, which is also that of SageMaker's protobuf records."""
    magic = struct.pack("<I", RECORDIO_MAGIC)
    parts: list[bytes] = []
    framed = b""
    while header := file.read(8):
        if len(header) < 8 or not header.startswith(magic):
            raise BadObject("It is not RecordIO: a record does not begin with its magic number.")
        (marked,) = struct.unpack("<I", header[4:])
        flag, length = marked >> 29, marked & ((1 << 29) - 1)
        if flag not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise BadObject("It is not RecordIO: the parts of a record are not in order.")
        _check_size(len(framed) + length, limit)
        padded = _exactly(file, length + -length % 4, "RecordIO")
        parts.append(padded[:length])
        framed += header + padded
        if flag in (WHOLE, LAST):
            yield Record(magic.join(parts), framed, framed)
            parts, framed = [], b""
    if parts:
        raise BadObject("It is not RecordIO: it ends within a record.")


def _tfrecords(file: BinaryIO, limit: int | None) -> Iterator[Record]:
    """TensorFlow's format. The checksum of a length is checked; that of the data is the reader's
    affair."""
    while header := file.read(12):
        if len(header) < 12 or struct.unpack("<I", header[8:])[0] != _masked_crc32c(header[:8]):
            raise BadObject("It is not TFRecord: the checksum of a record's length is wrong.")
        (length,) = struct.unpack("<Q", header[:8])
        _check_size(length, limit)
        rest = _exactly(file, length + 4, "TFRecord")
        framed = header + rest
        yield Record(rest[:length], framed, framed)


_READERS: dict[Split, Callable[[BinaryIO, int | None], Iterator[Record]]] = {
    "None": _whole,
    "Line": _lines,
    "RecordIO": _recordio,
    "TFRecord": _tfrecords,
}


def _exactly(file: BinaryIO, size: int, kind: str) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise BadObject(f"It is not {kind}: it ends within a record.")
    return found


def _check_size(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise _too_large(f"A record of {size:,} bytes", limit)


def _too_large(what: str, limit: int) -> BadObject:
    return BadObject(
        f"{what} is larger than MaxPayloadInMB of {limit >> 20} allows. Raise it (to at most 100)"
        ", or split the object by SplitType."
    )


def _masked_crc32c(data: bytes) -> int:
    """The checksum that TFRecord uses, of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
