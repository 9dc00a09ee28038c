"""AWS's refusals, met by the real command: one sentence on stderr, exit code 1, no traceback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.local.running import Running
from tests.scripts.kennel_command import Operator
from tests.scripts.test_aws_errors import SERVICE_ERRORS

TRAINING = {
    case: error for case, error in SERVICE_ERRORS.items() if error[0] == "CreateTrainingJob"
}


@contextmanager
def refusing(code: str, message: str) -> Iterator[str]:
    """A SageMaker that refuses everything so; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"__type": code, "message": message}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def bucket(running: Running) -> str:
    """With a photo in each split."""
    name = "kennel-sagemaker-us-east-1-123456789012"
    s3 = running.client("s3")
    s3.create_bucket(Bucket=name)
    for split in ("train", "valid"):
        s3.put_object(Bucket=name, Key=f"kennel/photos/{split}/dog/1.jpg", Body=b"photo")
    return name


@pytest.mark.parametrize("case", TRAINING)
def test_what_sagemaker_refuses_is_said_with_the_way_out(
    operator: Operator, bucket: str, case: str
) -> None:
    _, code, message, way_out = TRAINING[case]
    with refusing(code, message) as address:
        operator.variables = {"AWS_ENDPOINT_URL_SAGEMAKER": address}
        said = operator.refused("train", "--rules", "none", "--hp", "pretrained=none")
    assert way_out in said
    assert "\n" not in said


def nowhere(folder: Path, **variables: str) -> Operator:
    """Without any configuration of AWS."""
    none = {
        name: str(folder / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    }
    away = {"AWS_EC2_METADATA_DISABLED": "true"}
    return Operator(folder, None, {**none, **away, **variables})


def test_without_a_region_it_says_how_to_name_one(tmp_path: Path) -> None:
    assert "aws.region" in nowhere(tmp_path).refused("status")


def test_without_credentials_it_says_how_to_get_some(tmp_path: Path) -> None:
    said = nowhere(tmp_path, AWS_REGION="us-east-1").refused("train", "--rules", "none")
    assert said.startswith("No AWS credentials.")
    assert "kennel local up" in said


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = nowhere(tmp_path, AWS_REGION="us-east-1").refused("--profile", "mine", "status")
    assert "The config profile (mine) could not be found" in said


def test_a_setting_that_is_misspelt_is_named(tmp_path: Path) -> None:
    (tmp_path / "kennel.toml").write_text("[train]\ninstanc = 'ml.m5.xlarge'\n")
    assert "Did you mean 'instance'?" in nowhere(tmp_path).refused("status")


def test_a_wrong_command_line_exits_with_2(tmp_path: Path) -> None:
    assert "No such option" in nowhere(tmp_path).refused("status", "--nonsense", code=2)


def test_the_shell_can_complete_its_verbs(tmp_path: Path) -> None:
    operator = nowhere(
        tmp_path, _KENNEL_COMPLETE="complete_bash", COMP_WORDS="kennel de", COMP_CWORD="1"
    )
    assert operator.run().stdout.split() == ["deploy"]
