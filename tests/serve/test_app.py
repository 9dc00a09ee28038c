"""What a client reads for each thing that can happen; the engines here are a few lines each."""

import asyncio
import base64
import io
import json
import logging
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from serve.app import CUSTOM_ATTRIBUTES, OWN_FAULT, STATUS, create_app
from serve.artifact import CARD, Artifact, ArtifactError, Card
from serve.engine import Engine, EngineUnavailable, Probabilities
from serve.model import Model
from serve.preprocess import Pixels
from serve.settings import ServeSettings
from tests.conftest import COLORS, jpeg

pytestmark = pytest.mark.timeout(60, method="thread")

CLASSES = ("red", "green", "blue", "grey")
DIGEST = "5eed" * 16
PHOTO = jpeg(COLORS["green"])
BASE64 = base64.b64encode(PHOTO).decode()
_HEADER = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 15_500, 8, 2, 0, 0, 0)
PNG_OF_310_MEGAPIXELS = (
    b"\x89PNG\r\n\x1a\n\0\0\0\r"
    + _HEADER
    + struct.pack(">I", zlib.crc32(_HEADER))
    + b"\0\0\0\x09IDAT"
)


class ColorEngine:
    """Tells colours apart by their mean; it can be held, and told to fail."""

    name = "colour-engine"

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.calls: list[int] = []
        self.started = threading.Event()
        self.may_go = threading.Event()
        self.may_go.set()

    def predict(self, batch: list[Pixels]) -> list[Probabilities]:
        self.calls.append(len(batch))
        self.started.set()
        assert self.may_go.wait(30)
        if self.failure:
            raise self.failure
        return [self.look(pixels) for pixels in batch]

    def look(self, pixels: Pixels) -> Probabilities:
        means = np.append(pixels.mean(axis=(0, 1)), 100).astype(np.float32)
        return means / means.sum()


class NotANumberEngine(ColorEngine):
    def look(self, pixels: Pixels) -> Probabilities:
        return np.full(len(CLASSES), np.nan, np.float32)


class TooFewClassesEngine(ColorEngine):
    def look(self, pixels: Pixels) -> Probabilities:
        return np.ones(1, np.float32)


class Stopped(BaseException):
    """What ends the batcher."""


def model_of(engine: Engine) -> Model:
    card = Card(
        architecture="resnet18",
        classes=CLASSES,
        resize=36,
        crop=32,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        metrics={},
        versions={},
        digests={CARD: DIGEST},
    )
    return Model(Artifact(Path("/nowhere"), card), engine)


def loaded(engine: Engine) -> "Future[Model]":
    loading: Future[Model] = Future()
    loading.set_result(model_of(engine))
    return loading


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://model", timeout=30
        ) as client,
    ):
        yield client


@asynccontextmanager
async def serving(engine: Engine, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose model is loaded."""
    app = create_app(ServeSettings(**settings), loaded(engine), on_fatal=lambda: None)
    async with client_of(app) as client:
        await until(client, 200)
        yield client


async def until(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The first /ping with this status; the test's timeout is the only clock."""
    while (ping := await client.get("/ping")).status_code != status:
        await asyncio.sleep(0.001)
    return ping


async def send(
    client: httpx.AsyncClient,
    body: bytes | object = PHOTO,
    content_type: str = "",
    **headers: str,
) -> httpx.Response:
    raw = isinstance(body, bytes)
    kind = content_type or ("image/jpeg" if raw else "application/json")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(
        "/invocations", content=content, headers={"Content-Type": kind} | headers
    )


def ask(
    body: bytes | object = PHOTO,
    content_type: str = "",
    *,
    engine: Engine | None = None,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> httpx.Response:
    """One request to a server of its own."""

    async def story() -> httpx.Response:
        async with serving(engine or ColorEngine(), **settings) as client:
            return await send(client, body, content_type, **(headers or {}))

    return asyncio.run(story())


def labels(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [prediction["label"] for prediction in response.json()["predictions"]]


# Answers.


def test_one_photo_gets_its_classes_most_probable_first() -> None:
    response = ask()
    answer = response.json()
    assert response.headers["Content-Type"] == "application/json"
    assert set(answer) == {"predictions", "model"}
    assert answer["model"] == DIGEST
    assert [set(p) for p in answer["predictions"]] == [{"label", "index", "probability"}] * 4
    assert labels(response)[0] == "green"
    probabilities = [p["probability"] for p in answer["predictions"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [CLASSES[p["index"]] for p in answer["predictions"]] == labels(response)


@pytest.mark.parametrize(
    ("body", "settings", "count"),
    [
        ({"inputs": BASE64}, {}, 4),
        ({"inputs": BASE64, "top_k": 2}, {}, 2),
        ({"inputs": BASE64, "top_k": 2**63}, {}, 4),
        (PHOTO, {"top_k": 1}, 1),
        ({"inputs": BASE64, "top_k": 3}, {"top_k": 1}, 3),
    ],
    ids=["default", "asked for", "more than there are", "setting", "request before setting"],
)
def test_there_are_as_many_classes_as_asked_for(
    body: object, settings: dict[str, int], count: int
) -> None:
    assert len(labels(ask(body, **settings))) == count


def test_many_photos_get_an_entry_each_and_a_bad_one_its_own_error() -> None:
    huge = base64.b64encode(PNG_OF_310_MEGAPIXELS).decode()
    red = base64.b64encode(jpeg(COLORS["red"])).decode()
    array = base64.b64encode(b"\x93NUMPY\x01\0").decode()
    response = ask({"instances": [BASE64, "*", array, huge, red], "top_k": 1})
    assert response.status_code == 200
    green, no_base64, numpy_file, too_large, last = response.json()["predictions"]
    assert green["predictions"][0]["label"] == "green"
    assert last["predictions"][0]["label"] == "red"
    assert no_base64["error"].startswith("instances[1] is not base64 (")
    assert numpy_file["error"] == (
        "instances[2], base64-decoded, is a NumPy file, not an image. Send the JPEG's own bytes."
    )
    assert too_large["error"] == (
        "instances[3], base64-decoded, has 310 megapixels; the limit is 100 (SERVE_MAX_MEGAPIXELS)."
    )


def test_json_lines_are_answered_line_by_line() -> None:
    body = "\n".join(json.dumps({"inputs": text}) for text in (BASE64, "*", BASE64)).encode()
    response = ask(body, "application/jsonlines")
    assert response.headers["Content-Type"] == "application/jsonlines"
    first, second, third = (json.loads(line) for line in response.text.splitlines())
    assert first == third
    assert first["predictions"][0]["label"] == "green"
    assert second == {
        "error": "Line 2: inputs is not base64 (Only base64 data is allowed).",
        "model": DIGEST,
    }


def test_photos_of_one_request_share_calls_of_the_network() -> None:
    engine = ColorEngine()
    response = ask({"instances": [BASE64] * 40}, engine=engine, max_batch=8, max_wait_ms=1000)
    assert len(response.json()["predictions"]) == 40
    assert engine.calls == [8] * 5


@pytest.mark.parametrize("queue", [1, 3])
def test_a_request_of_more_photos_than_may_be_inside_is_answered(queue: int) -> None:
    response = ask({"instances": [BASE64] * 20}, queue=queue)
    assert [len(entry["predictions"]) for entry in response.json()["predictions"]] == [4] * 20


def test_accept_is_honoured() -> None:
    response = ask(headers={"Accept": "application/json;q=0.1, application/jsonlines"})
    assert response.headers["Content-Type"] == "application/jsonlines"


# Refusals: every row of the table.


def frozen(engine: ColorEngine) -> ColorEngine:
    engine.may_go.clear()
    return engine


REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    "BadPayload": ({"body": {}}, 400, 'The JSON has neither "inputs" nor "instances".'),
    "BadPayload, one photo": ({"body": {"inputs": 7}}, 400, "inputs must be a base64 text"),
    "UnreadableImage": ({"body": b"GIF89a"}, 400, "The body is "),
    "UnreadableImage, empty": ({"body": b""}, 400, "The body is empty (0 bytes)."),
    "NotAcceptable": ({"headers": {"Accept": "text/csv"}}, 406, "Accept 'text/csv' can't be met."),
    "BodyTooLarge": (
        {"body": b"\0" * 1001, "max_body_mb": 0.001},
        413,
        "The body is over 0.001 MB (SERVE_MAX_BODY_MB).",
    ),
    "ImageTooLarge": (
        {"body": PNG_OF_310_MEGAPIXELS},
        413,
        "The body has 310 megapixels; the limit is 100 (SERVE_MAX_MEGAPIXELS).",
    ),
    "TooManyItems": (
        {"body": {"instances": ["A", "B"]}, "max_items": 1},
        413,
        '"instances" has 2 photos; the limit is 1 a request (SERVE_MAX_ITEMS).',
    ),
    "UnsupportedContentType": (
        {"content_type": "text/csv"},
        415,
        "Content-Type 'text/csv' is not supported. Send image/jpeg",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_request_that_cannot_be_answered_reads_why(name: str) -> None:
    request, status, sentence = REFUSALS[name]
    response = ask(**request)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    assert set(response.json()) == {"error", "request_id"}
    assert response.json()["error"].startswith(sentence)
    assert response.json()["error"].endswith(".")
    assert "Retry-After" not in response.headers


def test_every_row_of_the_table_has_its_test() -> None:
    elsewhere = {"NotReady", "Overloaded", "TooSlow"}
    assert {name.split(",")[0] for name in REFUSALS} | elsewhere == {e.__name__ for e in STATUS}
    assert {error.__name__ for error in OWN_FAULT} <= {e.__name__ for e in STATUS}


def test_a_body_at_the_limit_is_read() -> None:
    assert ask(max_body_mb=len(PHOTO) / 1e6).status_code == 200


def test_a_server_that_is_full_says_so_and_when_to_come_back() -> None:
    async def story() -> None:
        engine = frozen(ColorEngine())
        async with serving(engine, queue=2) as client:
            inside = [asyncio.create_task(send(client)) for _ in range(2)]
            await asyncio.to_thread(engine.started.wait)
            while (response := await send(client)).status_code != 503:
                await asyncio.sleep(0)
            engine.may_go.set()
            assert [(await task).status_code for task in inside] == [200, 200]
            assert (await send(client)).status_code == 200
        assert response.headers["Retry-After"] == "1"
        sentence = "2 photos are already waiting. Retry later or add instances."
        assert response.json()["error"] == sentence

    asyncio.run(story())


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def story() -> None:
        engine = frozen(ColorEngine())
        async with serving(engine, timeout_s=0.05) as client:
            response = await send(client)
            engine.may_go.set()
            assert response.status_code == 504
            assert response.json()["error"] == "No answer within 0.05 s (SERVE_TIMEOUT_S)."

    asyncio.run(story())


def test_places_are_given_back_however_a_request_ends() -> None:
    async def story() -> None:
        engine = frozen(ColorEngine())
        async with serving(engine, queue=1, timeout_s=0.05) as client:
            assert (await send(client)).status_code == 504
            assert (await send(client, b"no photo")).status_code == 400
            engine.may_go.set()
            engine.failure = RuntimeError("once")
            while (await send(client)).status_code == 504:
                pass
            engine.failure = None
            assert (await send(client)).status_code == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "method", "status", "sentence"),
    [
        ("/nowhere", "GET", 404, "GET /nowhere: Not Found."),
        ("/invocations", "GET", 405, "GET /invocations: Method Not Allowed."),
        ("/ping", "POST", 405, "POST /ping: Method Not Allowed."),
    ],
)
def test_a_wrong_path_or_method_is_answered_in_json(
    path: str, method: str, status: int, sentence: str
) -> None:
    async def story() -> None:
        async with serving(ColorEngine()) as client:
            response = await client.request(method, path)
            assert (response.status_code, response.json()) == (status, {"error": sentence})

    asyncio.run(story())


@pytest.mark.parametrize("body", [PHOTO, b"no photo"], ids=["answered", "refused"])
def test_custom_attributes_are_echoed(body: bytes) -> None:
    response = ask(body, headers={CUSTOM_ATTRIBUTES: "trace=7f3a91; c=1"})
    assert response.headers[CUSTOM_ATTRIBUTES] == "trace=7f3a91; c=1"


def test_each_refusal_has_a_request_id_of_its_own() -> None:
    assert ask(b"").json()["request_id"] != ask(b"").json()["request_id"]


# Health.


def test_ping_tells_the_reason_until_the_model_is_loaded() -> None:
    async def story() -> None:
        loading: Future[Model] = Future()
        app = create_app(ServeSettings(), loading, on_fatal=lambda: None)
        async with client_of(app) as client:
            ping = await client.get("/ping")
            assert (ping.status_code, ping.json()) == (
                503,
                {"error": "The model is still loading."},
            )
            response = await send(client)
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
            assert response.json()["error"] == "The model is still loading. Retry later."
            loading.set_result(model_of(ColorEngine()))
            ping = await until(client, 200)
            assert ping.json() == {"model": DIGEST, "engine": "colour-engine"}
            assert (await send(client)).status_code == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ArtifactError("model.json has format 2."), "model.json has format 2."),
        (EngineUnavailable("torch sees no GPU."), "torch sees no GPU."),
        (MemoryError("no room"), "The model could not be loaded: MemoryError: no room"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_model_that_cannot_be_loaded_ends_the_server(error: Exception, sentence: str) -> None:
    async def story() -> None:
        loading: Future[Model] = Future()
        ended = asyncio.Event()
        app = create_app(ServeSettings(), loading, on_fatal=ended.set)
        async with client_of(app) as client:
            loading.set_exception(error)
            await ended.wait()
            ping = await client.get("/ping")
            assert (ping.status_code, ping.json()) == (503, {"error": sentence})
            assert app.state.service.fatal == sentence

    asyncio.run(story())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (NotANumberEngine(), "it gave probabilities that are not finite"),
        (TooFewClassesEngine(), "it gave (1,) probabilities for 4 classes"),
    ],
    ids=["not a number", "too few classes"],
)
def test_an_engine_that_gives_nonsense_has_failed(broken: Engine, reason: str) -> None:
    async def story() -> None:
        async with serving(broken) as client:
            assert (await send(client)).status_code == 500
            ping = await client.get("/ping")
            assert ping.status_code == 503
            assert ping.json()["error"] == f"The engine colour-engine failed: {reason}"

    asyncio.run(story())


def test_a_failed_engine_is_tried_again_when_the_health_is_asked() -> None:
    async def story() -> None:
        engine = ColorEngine()
        async with serving(engine) as client:
            engine.failure = RuntimeError("CUDA error: device lost")
            assert (await send(client)).status_code == 500
            ping = await client.get("/ping")
            assert ping.status_code == 503
            sentence = "The engine colour-engine failed: CUDA error: device lost"
            assert ping.json()["error"] == sentence
            engine.failure = None
            await until(client, 200)
            assert (await send(client)).status_code == 200

    asyncio.run(story())


def test_asking_for_the_health_again_and_again_starts_one_try_at_a_time() -> None:
    async def story() -> None:
        engine = ColorEngine()
        async with serving(engine) as client:
            engine.failure = RuntimeError("still broken")
            await send(client)
            engine.started.clear()
            frozen(engine)
            engine.calls.clear()
            for _ in range(5):
                assert (await client.get("/ping")).status_code == 503
            await asyncio.to_thread(engine.started.wait)
            for _ in range(5):
                assert (await client.get("/ping")).status_code == 503
            assert engine.calls == [1]
            engine.may_go.set()

    asyncio.run(story())


def test_a_dead_batcher_is_told_by_ping() -> None:
    async def story() -> None:
        engine = ColorEngine()
        async with serving(engine, timeout_s=0.05) as client:
            engine.failure = Stopped()
            assert (await send(client)).status_code == 504
            ping = await client.get("/ping")
            assert ping.status_code == 503
            sentence = "The batcher has stopped; this container must be replaced."
            assert ping.json()["error"] == sentence

    asyncio.run(story())


def test_ping_is_answered_while_the_network_runs() -> None:
    async def story() -> None:
        engine = frozen(ColorEngine())
        async with serving(engine) as client:
            running = asyncio.create_task(send(client))
            await asyncio.to_thread(engine.started.wait)
            assert (await client.get("/ping")).status_code == 200
            assert not running.done()
            engine.may_go.set()
            assert (await running).status_code == 200

    asyncio.run(story())


# What goes wrong inside.


@pytest.mark.parametrize("body", [PHOTO, {"instances": [BASE64, BASE64]}], ids=["one", "many"])
def test_an_inner_error_is_logged_in_full_and_told_in_brief(
    body: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> httpx.Response:
        engine = ColorEngine()
        async with serving(engine) as client:
            engine.failure = RuntimeError("secret path /opt/ml/model")
            return await send(client, body)

    with caplog.at_level(logging.ERROR, "serve"):
        response = asyncio.run(story())
    assert response.status_code == 500
    request_id = response.json()["request_id"]
    sentence = f"Inference failed; see the container log for request {request_id}."
    assert response.json() == {"error": sentence, "request_id": request_id}
    assert f"Request {request_id} failed." in caplog.text
    assert "RuntimeError: secret path /opt/ml/model" in caplog.text


Message = dict[str, Any]


async def speak(
    app: FastAPI, receive: Callable[[], Awaitable[Message]], headers: list[tuple[bytes, bytes]]
) -> list[Message]:
    """A request as a server hands it to the app; returns what the app would send."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/invocations",
        "raw_path": b"/invocations",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, collect)  # type: ignore[arg-type]
    return sent


def test_a_client_that_disconnects_while_it_sends_is_let_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        messages = [
            {"type": "http.request", "body": PHOTO[:100], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        engine = ColorEngine()
        app = create_app(ServeSettings(), loaded(engine), on_fatal=lambda: None)
        async with client_of(app) as client:
            await until(client, 200)
            await speak(app, receive, [(b"content-type", b"image/jpeg")])
            assert engine.calls == []
            assert (await send(client)).status_code == 200

    asyncio.run(story())
    assert caplog.records == [r for r in caplog.records if r.levelno < logging.WARNING]


def test_a_client_that_stops_sending_is_given_up() -> None:
    async def story() -> None:
        async def receive() -> Message:
            return await asyncio.get_running_loop().create_future()

        app = create_app(ServeSettings(timeout_s=0.05), loaded(ColorEngine()), lambda: None)
        async with client_of(app):
            start, *_ = await speak(app, receive, [(b"content-type", b"image/jpeg")])
        assert start["status"] == 504

    asyncio.run(story())


@pytest.mark.parametrize(("chunks", "read"), [(3, 3), (1000, 5)], ids=["over", "far over"])
def test_a_body_over_the_limit_is_read_on_for_a_while(chunks: int, read: int) -> None:
    async def story() -> None:
        taken = 0

        async def receive() -> Message:
            nonlocal taken
            taken += 1
            return {"type": "http.request", "body": b"\0" * 1000, "more_body": taken < chunks}

        app = create_app(
            ServeSettings(max_body_mb=0.001), loaded(ColorEngine()), on_fatal=lambda: None
        )
        async with client_of(app):
            start, *_ = await speak(app, receive, [(b"content-type", b"image/jpeg")])
        assert start["status"] == 413
        assert taken == read

    asyncio.run(story())


def test_leaving_answers_what_was_accepted() -> None:
    async def story() -> None:
        engine = frozen(ColorEngine())
        async with serving(engine) as client:
            running = asyncio.create_task(send(client))
            await asyncio.to_thread(engine.started.wait)
            asyncio.get_running_loop().call_later(0.01, engine.may_go.set)
        assert labels(await running)[0] == "green"

    asyncio.run(story())


# The other routes.


@pytest.mark.parametrize(
    ("settings", "concurrent", "payload_mb"),
    [
        ({}, 8, 12),
        ({"max_batch": 1}, 1, 25),
        ({"max_batch": 1000}, 100, 1),
        ({"max_body_mb": 0.5}, 8, 1),
    ],
    ids=str,
)
def test_execution_parameters_keep_sagemakers_limit(
    settings: dict[str, Any], concurrent: int, payload_mb: int
) -> None:
    async def story() -> None:
        async with serving(ColorEngine(), **settings) as client:
            response = await client.get("/execution-parameters")
        assert response.json() == {
            "MaxConcurrentTransforms": concurrent,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": payload_mb,
        }
        assert concurrent * payload_mb <= 100

    asyncio.run(story())


def test_the_demo_page_may_load_nothing_from_elsewhere() -> None:
    async def story() -> None:
        async with serving(ColorEngine()) as client:
            page = await client.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert "<title>Kennel</title>" in page.text

    asyncio.run(story())


def test_a_turned_photo_of_a_phone_is_answered_as_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(buffer, "JPEG", exif=exif)
    assert labels(ask(buffer.getvalue())) == labels(ask())
