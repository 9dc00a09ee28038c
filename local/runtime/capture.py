"""Data capture: what an endpoint was asked and what it answered, as JSON lines in S3."""

import base64
import json
import random
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from local.aws import Aws, join_uri
from local.store import Document


@dataclass(frozen=True)
class Message:
    """A request's or an answer's body."""

    content_type: str
    body: bytes


@dataclass(frozen=True)
class Event:
    """One answered request."""

    variant: str
    asked: Message
    answered: Message
    inference_id: str = ""
    at: float = field(default_factory=time.time)


class Capture(Protocol):
    def wanted(self) -> bool:
        """Whether the next request is one of the sample."""

    def add(self, event: Event) -> None:
        """May be called from any thread; writes nothing yet."""

    def flush(self, aws: Aws) -> None:
        """Writes what was added. Raises NoBucket; then it is lost, and the sentence says where."""


class NoCapture:
    """For endpoints that capture nothing."""

    def wanted(self) -> bool:
        return False

    def add(self, event: Event) -> None:
        pass

    def flush(self, aws: Aws) -> None:
        pass


class SampledCapture:
    """Captures a share of the requests, in the encodings that the configuration names."""

    def __init__(self, endpoint: str, config: Document) -> None:
        self._uri = join_uri(config["DestinationS3Uri"], endpoint)
        self._share: float = config["InitialSamplingPercentage"] / 100
        modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
        self._input = bool(modes & {"Input", "InputAndOutput"})
        self._output = bool(modes & {"Output", "InputAndOutput"})
        types = config.get("CaptureContentTypeHeader", {})
        self._csv = tuple(types.get("CsvContentTypes", ()))
        self._json = tuple(types.get("JsonContentTypes", ()))
        self._events: deque[Event] = deque()
        self._flushing = threading.Lock()

    def wanted(self) -> bool:
        return random.random() < self._share

    def add(self, event: Event) -> None:
        self._events.append(event)

    def flush(self, aws: Aws) -> None:
        with self._flushing:
            files: dict[str, list[Event]] = defaultdict(list)
            while self._events:
                event = self._events.popleft()
                at = datetime.fromtimestamp(event.at, UTC)
                files[join_uri(event.variant, f"{at:%Y/%m/%d/%H}")].append(event)
            for folder, events in files.items():
                name = f"{datetime.now(UTC):%M-%S}-{uuid.uuid4()}.jsonl"
                aws.put(self._lines(events), join_uri(self._uri, folder, name), "application/jsonl")

    def _lines(self, events: Sequence[Event]) -> bytes:
        return b"".join(json.dumps(self._record(event)).encode() + b"\n" for event in events)

    def _record(self, event: Event) -> dict[str, Any]:
        """As the Developer Guide shows it in "Capture data from real-time endpoint"."""
        data = {}
        if self._input:
            data["endpointInput"] = self._side(event.asked, "INPUT")
        if self._output:
            data["endpointOutput"] = self._side(event.answered, "OUTPUT")
        inference_id = {"inferenceId": event.inference_id} if event.inference_id else {}
        at = datetime.fromtimestamp(event.at, UTC)
        metadata = {"eventId": str(uuid.uuid4()), **inference_id}
        metadata["inferenceTime"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        return {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}

    def _side(self, message: Message, mode: str) -> dict[str, str]:
        kind = message.content_type.partition(";")[0].strip()
        encoding = "JSON" if kind in self._json else "CSV" if kind in self._csv else "BASE64"
        try:
            data = message.body.decode() if encoding != "BASE64" else ""
        except UnicodeDecodeError:  # it is not what its content type says
            encoding = "BASE64"
        if encoding == "BASE64":
            data = base64.b64encode(message.body).decode()
        side = {"observedContentType": message.content_type, "mode": mode}
        return side | {"data": data, "encoding": encoding}


def open_capture(endpoint: str, config: Document) -> Capture:
    """As an endpoint configuration asks."""
    capture = config.get("DataCaptureConfig", {})
    return SampledCapture(endpoint, capture) if capture.get("EnableCapture") else NoCapture()


def summary(config: Document) -> Document | None:
    """The DataCaptureConfigSummary that DescribeEndpoint tells."""
    capture = config.get("DataCaptureConfig")
    if capture is None:
        return None
    return {
        "EnableCapture": capture["EnableCapture"],
        "CaptureStatus": "Started" if capture["EnableCapture"] else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
