"""Asks a transform job's container: for its parameters, then for answers to payloads."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import httpx

from local.store import Document

MEBIBYTE = 1 << 20
PARAMETERS_TIMEOUT_S = 60.0
TIMEOUT_S, RETRIES = 600, 3  # ModelClientConfig's defaults
PAUSE_S = 0.2  # before the first retry; each further one waits twice as long
KEPT_BYTES = 1 * MEBIBYTE  # of an answer, in memory
SHOWN_BYTES = 4096  # of an answer that is no success
STRATEGIES = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}

Body = Callable[[], bytes | Iterator[bytes]]  # called for each attempt
Answer = IO[bytes]


class NoAnswer(Exception):
    """A payload got no answer that can be stored: what happened, and what the container said."""

    def __init__(self, what: str, said: str, kind: str = "AlgorithmError") -> None:
        super().__init__(f"{what}. Message: {said}" if said else what)
        self.what, self.said, self.kind = what, said, kind


@dataclass(frozen=True)
class Parameters:
    """How much is sent to a container at a time."""

    concurrent: int = 1
    payload_mb: int = 6  # 0: any size, sent in chunks
    strategy: str = "MULTI_RECORD"

    def __str__(self) -> str:
        return (
            f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={self.payload_mb}, "
            f"BatchStrategy={self.strategy}"
        )

    @property
    def limit(self) -> int | None:
        """Bytes of a payload."""
        return self.payload_mb * MEBIBYTE or None


def decide(job: Document, offered: Mapping[str, Any]) -> Parameters:
    """The request's parameters, else those that the container offers, else the defaults."""
    default = Parameters()
    asked = job.get("MaxPayloadInMB")
    strategy = STRATEGIES.get(job.get("BatchStrategy", ""))
    return Parameters(
        job.get("MaxConcurrentTransforms")
        or offered.get("MaxConcurrentTransforms")
        or default.concurrent,
        asked if asked is not None else offered.get("MaxPayloadInMB", default.payload_mb),
        strategy or offered.get("BatchStrategy", default.strategy),
    )


class ModelClient:
    """One container's. `given_up` tells whether answers are still wanted."""

    def __init__(self, address: str, job: Document, given_up: Callable[[], bool]) -> None:
        config = job.get("ModelClientConfig", {})
        self._timeout_s = config.get("InvocationsTimeoutInSeconds", TIMEOUT_S)
        self._retries = config.get("InvocationsMaxRetries", RETRIES)
        self._given_up = given_up
        self._client = httpx.Client(
            base_url=address,
            timeout=httpx.Timeout(self._timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,  # the container is here: no proxy
            verify=False,  # and speaks plain HTTP; loading certificates would only cost time
        )
        # Only what the job asks for is said, not what httpx can decode.
        for name in ("Accept", "Accept-Encoding"):
            del self._client.headers[name]
        if content_type := job["TransformInput"].get("ContentType"):
            self._client.headers["Content-Type"] = content_type
        if accept := job["TransformOutput"].get("Accept"):
            self._client.headers["Accept"] = accept

    def close(self) -> None:
        self._client.close()

    def parameters(self) -> Mapping[str, Any]:
        """What the container offers at /execution-parameters: nothing, if it has no such path.
        Raises NoAnswer if it offers what can't be used."""
        try:
            answer = self._client.get("/execution-parameters", timeout=PARAMETERS_TIMEOUT_S)
        except httpx.TransportError as error:
            raise NoAnswer("Unable to get execution parameters", repr(error)) from None
        if answer.status_code != 200:
            return {}
        try:
            return _usable(json.loads(answer.content))
        except (ValueError, TypeError, KeyError):
            raise NoAnswer(
                "The answer to /execution-parameters is not like "
                '{"MaxConcurrentTransforms": 8, "BatchStrategy": "MULTI_RECORD", '
                '"MaxPayloadInMB": 6}',
                answer.text[:SHOWN_BYTES],
            ) from None

    def ask(self, body: Body) -> Answer:
        """The answer, to be read and closed. Timeouts, lost connections and 5xx are tried again.
        Raises NoAnswer."""
        for attempt in range(self._retries):
            try:
                return self._ask_once(body)
            except NoAnswer as error:
                if error.kind == "ClientError" or self._given_up():
                    raise
            time.sleep(PAUSE_S * 2**attempt)
        return self._ask_once(body)

    def _ask_once(self, body: Body) -> Answer:
        until = time.monotonic() + self._timeout_s
        try:
            with self._client.stream("POST", "/invocations", content=body()) as response:
                # Not iter_bytes: what is stored is what the container sent.
                answer = _received(response.iter_raw(), until)
                status = response.status_code
        except httpx.TransportError as error:
            raise NoAnswer("Unable to get response from algorithm", self._told(error)) from None
        if 200 <= status < 300:
            return answer
        with answer:
            said = answer.read(SHOWN_BYTES).decode(errors="backslashreplace").strip()
        if status >= 500:
            raise NoAnswer(f"Bad HTTP status received from algorithm: {status}", said)
        raise NoAnswer(f"ClientError: {status}", said, "ClientError")

    def _told(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"It did not answer within InvocationsTimeoutInSeconds of {self._timeout_s}."
        return f"{type(error).__name__}: {error}"


def _received(chunks: Iterator[bytes], until: float) -> Answer:
    answer = tempfile.SpooledTemporaryFile(KEPT_BYTES)  # noqa: SIM115 - the caller closes it
    for chunk in chunks:
        answer.write(chunk)
        if time.monotonic() > until:  # httpx limits the wait for each chunk only
            answer.close()
            raise httpx.ReadTimeout("")
    answer.seek(0)
    return answer


def _usable(offered: Any) -> dict[str, Any]:
    """Raises ValueError, TypeError, KeyError for what SageMaker could not use."""
    if not isinstance(offered, Mapping):
        raise TypeError
    usable: dict[str, Any] = {}
    for name, most in (("MaxConcurrentTransforms", None), ("MaxPayloadInMB", 100)):
        if name in offered:
            usable[name] = int(offered[name])
            if usable[name] < 0 or (most is not None and usable[name] > most):
                raise ValueError
    if "BatchStrategy" in offered:
        usable["BatchStrategy"] = offered["BatchStrategy"]
        if usable["BatchStrategy"] not in STRATEGIES.values():
            raise ValueError
    return usable
