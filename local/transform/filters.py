"""DataProcessing of transform jobs: input filtered, joined with the answers, and filtered again.

JSONPath is what the service supports of it. Where its guide and its behaviour differ (the guide's
slices include their end), it is as users' working jobs show.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.jsonpath import Child, Fields, Index, JSONPath, Root, Slice, Wildcard
from jsonpath_ng.parser import parse

from local.store import Document
from local.transform.splitting import BadObject, Record

CSV = "text/csv"
JSON = ("application/json", "application/jsonlines")
OPERATORS = ("$", "[", "]", "*", ".", " ", ",", ":", "-", "'")


class BadFilter(Exception):
    """A request's DataProcessing can't be done; the sentence is AWS's where it has one."""


@dataclass(frozen=True)
class Filter:
    """A JSONPath and what it makes of a record."""

    path: JSONPath
    text: str

    def apply(self, value: Any) -> Any:
        """The value that the path names, or all it may name as an object or a list. Raises
        BadObject."""
        if not isinstance(self.path, Child):
            return value
        found = [match.value for match in self.path.find(value)]
        last = self.path.right
        names: tuple[Any, ...] = ()
        if isinstance(last, Fields):
            names = last.fields
        elif isinstance(last, Index):
            names = last.indices
        if not names or not _is_definite(self.path.left):
            return found
        if len(found) < len(names):
            raise BadObject(f"'{self.text}' does not find all that it names in a record.")
        if len(names) == 1:
            return found[0]
        return dict(zip(names, found, strict=True)) if isinstance(last, Fields) else found


@dataclass(frozen=True)
class Processing:
    """What is done to records on their way to the container, and to its answers."""

    input_filter: Filter
    output_filter: Filter
    joins: bool
    input_type: str
    output_type: str

    def filtered(self, record: Record) -> Record:
        """The record as it is sent. Raises BadObject."""
        if isinstance(self.input_filter.path, Root):
            return record
        kept = self.input_filter.apply(_parse(record.original, self.input_type))
        end = record.original[len(record.original.rstrip(b"\r\n")) :]
        line = _format(kept, self.input_type) + end
        return Record(line, line, record.original)

    def processed(self, answer: bytes, originals: Sequence[bytes]) -> bytes:
        """What is stored of an answer, record by record. Raises BadObject."""
        if not self.joins and isinstance(self.output_filter.path, Root):
            return answer
        values = [_parse(part, self.output_type) for part in self._parts(answer, originals)]
        if self.joins:
            if len(values) != len(originals):
                raise BadObject(
                    f"The container answered {len(originals)} records with {len(values)} results, "
                    "which can't be joined."
                )
            values = [
                self._joined(_parse(original, self.input_type), value)
                for original, value in zip(originals, values, strict=True)
            ]
        return b"\n".join(
            _format(self.output_filter.apply(value), self.output_type) for value in values
        )

    def _parts(self, answer: bytes, originals: Sequence[bytes]) -> list[bytes]:
        if self.output_type != CSV and len(originals) == 1:
            return [answer]  # a document of perhaps many lines
        return [line for line in answer.splitlines() if line.strip()]

    def _joined(self, sent: Any, result: Any) -> Any:
        if self.input_type == CSV:
            return [*sent, *result]
        if isinstance(sent, dict):
            return {**sent, "SageMakerOutput": result}
        return {"SageMakerInput": sent, "SageMakerOutput": result}


def processing(request: Document) -> Processing | None:
    """None where answers are stored as they come. Raises BadFilter."""
    asked = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    asked |= request.get("DataProcessing", {})
    joins = asked["JoinSource"] == "Input"
    if not joins and asked["InputFilter"] == asked["OutputFilter"] == "$":
        return None
    source, output = request["TransformInput"], request["TransformOutput"]
    input_type = source.get("ContentType", "")
    output_type = output.get("Accept") or input_type
    _check_formats(source, output, input_type, output_type)
    if joins and (input_type == CSV) != (output_type == CSV):
        raise BadFilter(
            f"JoinSource Input needs ContentType and Accept of one format, got {input_type} and "
            f"{output_type}."
        )
    return Processing(
        _filter("InputFilter", asked["InputFilter"], input_type),
        _filter("OutputFilter", asked["OutputFilter"], output_type),
        joins,
        input_type,
        output_type,
    )


def _check_formats(source: Document, output: Document, input_type: str, output_type: str) -> None:
    for member, kind in (("ContentType", input_type), ("Accept", output_type)):
        if kind not in (CSV, *JSON):
            raise BadFilter(
                f"DataProcessing needs {member} to be {CSV}, {JSON[0]} or {JSON[1]}, got '{kind}'."
            )
    split = source.get("SplitType", "None")
    if split not in ("None", "Line") or (input_type == CSV and split != "Line"):
        raise BadFilter(f"DataProcessing of {input_type} needs SplitType Line, got {split}.")
    if output_type == CSV and output.get("AssembleWith", "None") != "Line":
        raise BadFilter(f"DataProcessing of {CSV} needs AssembleWith Line, got None.")


def _filter(member: str, text: str, kind: str) -> Filter:
    for character in text:
        if character not in OPERATORS and not (character.isascii() and character.isalnum()):
            listed = ", ".join(f"'{operator}'" for operator in OPERATORS)
            raise BadFilter(
                f'Invalid {member}: "{text}". Unexpected "{character}" in JsonPath. Supported '
                f'operators for "{kind}" are [{listed}]'
            )
    bracket = text[text.find("[") : text.find("]") + 1]
    if ":" in bracket and "," in bracket:
        raise BadFilter(
            f"Invalid JsonPath: {text}: only single range filters of format (eg: [1:5]) are "
            f"supported. Format {bracket} is not supported"
        )
    try:
        path = parse(text)
    except JSONPathError as error:
        raise BadFilter(f'Invalid {member}: "{text}". {error}') from None
    if not text.startswith("$") or not _is_supported(path):
        raise BadFilter(f'Invalid {member}: "{text}". It uses what SageMaker does not support.')
    if kind == CSV and not _is_of_columns(path):
        raise BadFilter(
            f'Invalid {member}: "{text}". Of {kind}, columns are chosen by their indexes, such '
            "as $[0], $[1:] or $[0,-1]."
        )
    return Filter(path, text)


def _is_supported(path: JSONPath) -> bool:
    if isinstance(path, Child):
        return _is_supported(path.left) and _is_supported(path.right)
    if isinstance(path, Slice):
        return path.step is None
    return isinstance(path, Root | Fields | Index | Wildcard)


def _is_definite(path: JSONPath) -> bool:
    """Whether it can name one value only."""
    if isinstance(path, Child):
        return _is_definite(path.left) and _is_definite(path.right)
    if isinstance(path, Fields):
        return len(path.fields) == 1
    if isinstance(path, Index):
        return len(path.indices) == 1
    return isinstance(path, Root)


def _is_of_columns(path: JSONPath) -> bool:
    if isinstance(path, Child):
        return isinstance(path.left, Root) and isinstance(path.right, Index | Slice | Wildcard)
    return isinstance(path, Root)


def _parse(record: bytes, kind: str) -> Any:
    try:
        text = record.decode()
        if kind == CSV:
            return next(csv.reader([text.rstrip("\r\n")], strict=True), [])
        return json.loads(text)
    except (ValueError, csv.Error) as error:
        raise BadObject(f"A record is not {kind}: {error}.") from None


def _format(value: Any, kind: str) -> bytes:
    if kind != CSV:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(value if isinstance(value, list) else [value])
    return line.getvalue().encode()
