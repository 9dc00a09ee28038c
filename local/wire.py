"""SageMaker's wire protocol, AWS JSON 1.1, by botocore's own service models.

Requests are checked as the service checks them, which botocore's client does only in part; answers
are shaped to what the model names. Source of the sentences: answers of the real service.
"""

import base64
import binascii
import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import regex
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

TARGET_PREFIX = "SageMaker."


class Refused(Exception):
    """A request that is answered with an error: AWS's code, a sentence and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400, **fields: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.fields = code, message, status, fields

    def body(self) -> dict[str, Any]:
        return {
            "__type": self.code,
            "message": self.message,
            "Message": self.message,
            **self.fields,
        }


def invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


@functools.cache
def service(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def operation(target: str) -> OperationModel:
    """The operation an X-Amz-Target header names. Raises Refused."""
    name = target.removeprefix(TARGET_PREFIX)
    if name == target or name not in service("sagemaker").operation_names:
        raise Refused("UnknownOperationException", f"Unknown operation {target!r}.", 404)
    return service("sagemaker").operation_model(name)


def parse(model: OperationModel, body: bytes) -> dict[str, Any]:
    """The request's members, checked; timestamps are seconds since 1970. Raises Refused."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise Refused("SerializationException", "The request body is not JSON.") from None
    shape = model.input_shape
    if shape is None:
        return {}
    parsed = _convert(shape, value)
    violations = list(_violations(shape, parsed, ""))
    if violations:
        count = len(violations)
        errors = "error" if count == 1 else "errors"
        raise invalid(f"{count} validation {errors} detected: {'; '.join(violations)}")
    return dict(parsed)


def shaped(model: OperationModel, result: Mapping[str, Any]) -> dict[str, Any]:
    """Only those members of the answer that the model names and that have a value."""
    if model.output_shape is None:
        return {}
    return dict(_shaped(model.output_shape, result))


def members(structure: str) -> tuple[str, ...]:
    """The names of a structure's members, in the model's order."""
    return tuple(service("sagemaker").shape_for(structure).members)


def _convert(shape: Shape, value: Any) -> Any:
    """Wrong types end it, as they do when the service deserializes; nulls are absent members."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            raise _unserializable(value, "Structure")
        return {
            # Unknown members stay, to be told of with everything else that is wrong.
            name: _convert(shape.members[name], item) if name in shape.members else item
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise _unserializable(value, "Map")
        return {key: _convert(shape.value, item) for key, item in value.items()}
    if isinstance(shape, ListShape):
        if not isinstance(value, list):
            raise _unserializable(value, "List")
        return [_convert(shape.member, item) for item in value]
    return _SCALARS[shape.type_name](value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _unserializable(value, "String")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unserializable(value, "Integer")
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unserializable(value, "Float")
    return float(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unserializable(value, "Boolean")
    return value


def _timestamp(value: Any) -> float:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            raise _unserializable(value, "Timestamp") from None
    return _float(value)


def _blob(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except binascii.Error:
        raise _unserializable(value, "Blob") from None


_SCALARS = {
    "string": _string,
    "character": _string,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "blob": _blob,
}


def _unserializable(value: Any, wanted: str) -> Refused:
    if isinstance(value, dict):
        message = "Start of structure or map found where not expected."
    elif isinstance(value, list):
        message = "Start of list found where not expected"
    else:
        kind = "NULL"
        if isinstance(value, bool):
            kind = str(value).upper()
        elif isinstance(value, int | float):
            kind = "NUMBER" if isinstance(value, int) else "DECIMAL"
        elif isinstance(value, str):
            kind = "STRING"
        article = "an" if wanted[0] in "AEIOU" else "a"
        message = f"{kind}_VALUE can not be converted to {article} {wanted}"
    return Refused("SerializationException", message)


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in _constraints(shape, value):
        yield f"Value {_shown(value)} at '{path}' failed to satisfy constraint: {constraint}"
    if isinstance(shape, StructureShape):
        yield from _structure_violations(shape, value, path)
    elif isinstance(shape, ListShape):
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif isinstance(shape, MapShape):
        yield from _map_violations(shape, value, path)


def _structure_violations(shape: StructureShape, value: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            at = _joined(path, name)
            yield f"Value null at '{at}' failed to satisfy constraint: Member must not be null"
    for name, item in value.items():
        if name in shape.members:
            yield from _violations(shape.members[name], item, _joined(path, name))
        else:
            near = difflib.get_close_matches(name, shape.members, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            yield f"Unknown member '{name}' at '{path or shape.name}'.{hint}"


def _map_violations(shape: MapShape, value: Any, path: str) -> Iterator[str]:
    at = f"Value {_shown(value)} at '{path}' failed to satisfy constraint: Map"
    for kind, member, items in (
        ("keys", shape.key, value.keys()),
        ("value", shape.value, value.values()),
    ):
        broken = sorted({c for item in items for c in _constraints(member, item)})
        if broken:
            yield f"{at} {kind} must satisfy constraint: [{', '.join(broken)}]"
    if not isinstance(shape.value, StructureShape | ListShape | MapShape):
        return
    for key, item in value.items():
        yield from _violations(shape.value, item, f"{path}.{key}.member")


def _constraints(shape: Shape, value: Any) -> Iterator[str]:
    """What of the model's length, range, pattern and enum the value breaks."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if isinstance(value, str | list | dict | bytes) and not isinstance(shape, StructureShape):
        if least is not None and len(value) < least:
            yield f"Member must have length greater than or equal to {least}"
        if most is not None and len(value) > most:
            yield f"Member must have length less than or equal to {most}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if least is not None and value < least:
            yield f"Member must have value greater than or equal to {least}"
        if most is not None and value > most:
            yield f"Member must have value less than or equal to {most}"
    if isinstance(value, str):
        pattern, allowed = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if pattern and not _pattern(pattern).fullmatch(value):
            yield f"Member must satisfy regular expression pattern: {pattern}"
        if allowed and value not in allowed:
            yield f"Member must satisfy enum value set: [{', '.join(allowed)}]"


@functools.cache
def _pattern(pattern: str) -> "regex.Pattern[str]":
    # Of what may stand in several lines, such as a regex of metrics, "." is any character.
    return regex.compile(pattern, regex.DOTALL)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "'{" + ", ".join(f"{key}={item}" for key, item in value.items()) + "}'"
    if isinstance(value, list):
        return f"'[{', '.join(map(str, value))}]'"
    return f"'{value}'"


def _joined(path: str, name: str) -> str:
    """AWS names members in lower camel case."""
    own = name[0].lower() + name[1:]
    return f"{path}.{own}" if path else own


def _shaped(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape):
        return {
            name: _shaped(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if isinstance(shape, ListShape):
        return [_shaped(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {key: _shaped(shape.value, item) for key, item in value.items()}
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return value
