"""The command `serve` as SageMaker runs it: a process, a port, signals, and any client."""

import base64
import csv
import http.client
import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.artifact import pack
from tests.conftest import TrainedJob
from tests.serve.server_process import Server, command, refused_to_start, serving, started

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(trained_job: TrainedJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving(trained_job.model_dir, log) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def photo(trained_job: TrainedJob) -> bytes:
    return (trained_job.photos / "test" / "green" / "0.jpg").read_bytes()


def classify(client: httpx.Client, body: bytes, content_type: str = "image/jpeg") -> httpx.Response:
    return client.post("/invocations", content=body, headers={"Content-Type": content_type})


# Answers.


def test_every_test_photo_gets_the_probabilities_that_training_computed(
    client: httpx.Client, trained_job: TrainedJob
) -> None:
    table = trained_job.base / "output" / "data" / "predictions.csv"
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 18
    for row in rows:
        response = classify(client, (trained_job.photos / "test" / row["file"]).read_bytes())
        predictions = response.json()["predictions"]
        assert predictions[0]["label"] == row["predicted"]
        served = {p["label"]: p["probability"] for p in predictions}
        trained = {label: float(row[label]) for label in served}
        assert len(served) == 3
        assert served == pytest.approx(trained, abs=1e-3), row["file"]


def test_the_original_clients_snippet_gets_the_answer_of_the_raw_photo(
    client: httpx.Client, server: Server, photo: bytes
) -> None:
    raw = classify(client, photo).json()
    once = {"inputs": base64.b64encode(photo).decode()}
    assert client.post("/invocations", json=once).json() == raw

    # As the original client wrote it, with a client of the standard library.
    encoded = base64.encodebytes(base64.b64encode(photo)).decode("ascii")
    request = urllib.request.Request(
        f"{server.url}/invocations",
        data=json.dumps({"inputs": encoded}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response) == raw


def test_many_photos_get_the_answers_of_each_alone(
    client: httpx.Client, trained_job: TrainedJob
) -> None:
    files = sorted(trained_job.photos.glob("test/*/*.jpg"))
    encoded = [base64.b64encode(file.read_bytes()).decode() for file in files]
    response = client.post("/invocations", json={"instances": encoded}).json()
    for file, entry in zip(files, response["predictions"], strict=True):
        alone = classify(client, file.read_bytes()).json()["predictions"]
        together = entry["predictions"]
        assert [p["label"] for p in together] == [p["label"] for p in alone]
        probabilities = [[p["probability"] for p in side] for side in (together, alone)]
        assert np.allclose(*probabilities, atol=1e-4)


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_over_the_limit_is_answered_and_not_cut_off(server: Server, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = iter([bytes(1_000_000)] * 30) if chunked else bytes(30_000_000)
    connection.request(
        "POST",
        "/invocations",
        body,
        {"Content-Type": "image/jpeg"},
        encode_chunked=chunked,
    )
    response = connection.getresponse()
    assert response.status == 413
    sentence = "The body is over 25 MB (SERVE_MAX_BODY_MB)."
    assert json.load(response)["error"] == sentence
    connection.close()


# Starting and ending.


def test_ping_is_503_until_it_is_200_and_the_log_says_what_is_served(
    trained_job: TrainedJob, tmp_path: Path
) -> None:
    with started(trained_job.model_dir, tmp_path / "log") as server:
        statuses = server.wait_until_ready()
        assert statuses == [503] * (len(statuses) - 1) + [200]
        assert server.stop() == 0
        assert "Ready: resnet18, 3 classes, engine openvino-fp32, model " in server.log
        assert "Traceback" not in server.log


def test_a_packed_model_is_served(trained_job: TrainedJob, tmp_path: Path, photo: bytes) -> None:
    archive = tmp_path / "model.tar.gz"
    pack(trained_job.model_dir, archive)
    with serving(archive, tmp_path / "log") as server, server.client() as client:
        assert classify(client, photo).json()["predictions"][0]["label"] == "green"


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered_before_the_server_ends(
    trained_job: TrainedJob, tmp_path: Path, photo: bytes, name: signal.Signals
) -> None:
    # A batch that waits a second for more photos keeps its requests in flight that long.
    slow = {"SERVE_MAX_BATCH": "32", "SERVE_MAX_WAIT_MS": "1000"}
    head = (
        "POST /invocations HTTP/1.1\r\nHost: model\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(photo)}\r\n\r\n"
    )
    with serving(trained_job.model_dir, tmp_path / "log", **slow) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(6)]
        for connection in connections:
            connection.sendall(head.encode() + photo)
        with server.client() as client:  # answered after the server has seen the others
            for _ in range(3):
                assert client.get("/ping").status_code == 200
        assert server.stop(name) == 0
        for connection in connections:
            with connection:
                response = http.client.HTTPResponse(connection)
                response.begin()
                assert response.status == 200
                assert json.load(response)["predictions"][0]["label"] == "green"
        assert "Traceback" not in server.log


def test_a_signal_while_the_model_loads_is_a_clean_end(
    trained_job: TrainedJob, tmp_path: Path
) -> None:
    with started(trained_job.model_dir, tmp_path / "log") as server:
        with server.client() as client:
            while True:
                try:
                    client.get("/ping")
                    break
                except httpx.ConnectError:
                    assert server.process.poll() is None
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_bad_artifact_ends_the_server_with_its_sentence(tmp_path: Path) -> None:
    done = refused_to_start(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No model.json in {tmp_path} (found: nothing)")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_tampered_model_ends_the_server_with_its_sentence(
    trained_job: TrainedJob, tmp_path: Path
) -> None:
    archive = tmp_path / "model.tar.gz"
    pack(trained_job.model_dir, archive)
    archive.write_bytes(archive.read_bytes()[:-50_000])
    done = refused_to_start(archive)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{archive} is damaged or cut short")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"SERVE_TOPK": "3"}, "Unknown setting SERVE_TOPK. Did you mean SERVE_TOP_K?\n"),
        ({"SERVE_QUEUE": "many"}, "SERVE_QUEUE='many': Input should be a valid integer"),
    ],
    ids=["unknown", "unusable"],
)
def test_a_bad_setting_ends_the_server_with_its_sentence(
    tmp_path: Path, setting: dict[str, str], sentence: str
) -> None:
    done = refused_to_start(tmp_path, **setting)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_ends_the_server_with_a_sentence(
    server: Server, trained_job: TrainedJob
) -> None:
    done = refused_to_start(trained_job.model_dir, SAGEMAKER_BIND_TO_PORT=str(server.port))
    assert done.returncode == 1
    assert f"port {server.port}: Address already in use. Set SAGEMAKER_BIND_TO" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_argument_is_refused_because_settings_are_variables() -> None:
    done = subprocess.run([command(), "--port", "80"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("`serve` takes no arguments, got '--port 80'.")


# No body and no byte stream does harm.


def check_health(client: httpx.Client, photo: bytes) -> None:
    assert client.get("/ping").status_code == 200
    assert classify(client, photo).json()["predictions"][0]["label"] == "green"


deep = st.integers(1, 3000).flatmap(
    lambda n: st.sampled_from(["[" * n + "]" * n, "[" * n, '{"inputs":' * n + "1" + "}" * n])
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
).map(json.dumps)
keys = st.sampled_from(["inputs", "instances", "top_k", "model", ""])
json_bodies = (
    st.lists(st.tuples(keys, json_values | deep), max_size=3)  # a key may come twice
    .map(lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}")
    .map(str.encode)
)
header_values = st.binary(max_size=30).map(
    lambda raw: bytes(byte for byte in raw if 0x21 <= byte <= 0x7E or byte >= 0x80)
)
CONTENT_TYPES = [
    b"image/jpeg", b"application/json", b"application/jsonlines", b"application/octet-stream",
    b"application/json; charset=utf-16", b"multipart/form-data", b"text/plain",
]  # fmt: skip
ACCEPTS = [b"*/*", b"application/json", b"application/jsonlines;q=0.5", b"text/csv", b";q=,"]


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    body = bytearray(original)
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=5)
    ):
        body[place] = value
    return bytes(body[: draw(st.none() | st.integers(0, len(body)))])


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_whatsoever_makes_the_server_fail(
    client: httpx.Client, photo: bytes, data: st.DataObject
) -> None:
    text = base64.b64encode(photo).decode()
    valid = [
        photo,
        json.dumps({"inputs": text, "top_k": 2}).encode(),
        json.dumps({"instances": [text, text]}).encode(),
        json.dumps({"inputs": text}).encode() + b"\n" + json.dumps({"inputs": text}).encode(),
    ]
    body = data.draw(
        st.binary(max_size=2000)
        | json_bodies
        | st.lists(json_bodies, max_size=4).map(b"\n".join)
        | st.sampled_from(valid).flatmap(mutated)
    )
    content_type = data.draw(st.sampled_from(CONTENT_TYPES) | header_values)
    accept = data.draw(st.sampled_from(ACCEPTS) | header_values)
    response = client.post(
        "/invocations",
        content=body,
        headers=[
            (b"Content-Type", content_type),
            (b"Accept", accept),
            (b"X-Amzn-SageMaker-Custom-Attributes", data.draw(header_values)),
        ],
    )
    assert response.status_code < 500, response.text
    if response.status_code == 200:
        assert all("model" in json.loads(line) for line in response.text.splitlines())
    else:
        assert response.json()["error"].endswith(".")
    assert client.get("/ping").status_code == 200


def test_the_server_is_well_after_all_of_that(client: httpx.Client, photo: bytes) -> None:
    check_health(client, photo)


POST = b"POST /invocations HTTP/1.1\r\nHost: model\r\nContent-Type: image/jpeg\r\n"


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET  /ping\r\n\r\n",
        POST + b"Content-Length: many\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        POST + b"Content-Length: 999999999999999999999\r\n\r\nabc",
        POST + b"Content-Length: 100\r\n\r\nhalf of it",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
        POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
        POST + b"X-Many: " + b"y" * 200_000 + b"\r\n\r\n",
        POST + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        POST + b"X-Null: \0\r\nContent-Length: 0\r\n\r\n",
        POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n",
        POST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: m\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: model\r\n\r\n",
        b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: model\r\n\r\n",
    ],
    ids=lambda stream: repr(stream[-40:]),
)
@pytest.mark.parametrize("end", ["closes", "resets"])
def test_no_malformed_request_kills_the_server(
    server: Server, client: httpx.Client, photo: bytes, stream: bytes, end: str
) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as connection,
        suppress(OSError),  # the server may hang up on nonsense
    ):
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
        if end == "closes":
            while connection.recv(65536):
                pass
    check_health(client, photo)


def test_many_connections_that_say_nothing_leave_room_for_others(
    server: Server, client: httpx.Client, photo: bytes
) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(100)]
    check_health(client, photo)
    for connection in silent:
        connection.close()
