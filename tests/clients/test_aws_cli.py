"""The aws command line, version 1, as Amazon publishes it."""

import json
from typing import Any

import pytest

from tests.clients.archives import unpack
from tests.clients.environment import Client
from tests.local.running import Running, await_end, channel, training_request

pytestmark = pytest.mark.timeout(900)

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1"
GROUP = "/aws/sagemaker/TrainingJobs"


def aws(client: Client, *arguments: str) -> Any:
    """What a command answers, which is JSON or nothing."""
    done = client.run("aws", *arguments, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def refusal(client: Client, *arguments: str) -> str:
    done = client.run("aws", *arguments)
    assert done.returncode == 255, done.stdout + done.stderr  # version 2 says 254
    return done.stderr.strip()


@pytest.fixture(scope="module")
def photos(aws_cli: Client) -> str:
    """A folder of photos, copied to a bucket."""
    folder = aws_cli.folder / "photos" / "dogs"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"photo")
    assert aws_cli.run("aws", "s3", "mb", "s3://cli").returncode == 0
    copied = aws_cli.run("aws", "s3", "cp", "--recursive", "photos", "s3://cli/photos")
    assert copied.returncode == 0, copied.stderr
    return "s3://cli/photos"


@pytest.fixture(scope="module")
def job(aws_cli: Client, running: Running, photos: str) -> dict[str, Any]:
    """A training job created and awaited by commands."""
    request = training_request(
        "cli-job",
        IMAGE,
        "s3://cli",
        AlgorithmSpecification={"MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}]},
        HyperParameters={"rate": "0.25"},
        InputDataConfig=[channel("training", photos)],
        Tags=[{"Key": "team", "Value": "dogs"}],
    )
    (aws_cli.folder / "job.json").write_text(json.dumps(request))
    aws(aws_cli, "sagemaker", "create-training-job", "--cli-input-json", "file://job.json")
    await_end(running.client("sagemaker"), "cli-job")  # the command would look every 120 s
    name = ("--training-job-name", "cli-job")
    aws(aws_cli, "sagemaker", "wait", "training-job-completed-or-stopped", *name)
    return dict(aws(aws_cli, "sagemaker", "describe-training-job", *name))


@pytest.fixture(scope="module")
def endpoint(aws_cli: Client, running: Running, job: dict[str, Any]) -> str:
    """The job's model behind an endpoint, created and awaited by commands."""
    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    variant = {"VariantName": "all", "ModelName": "cli-model", "InstanceType": "ml.m5.large"}
    aws(
        *(aws_cli, "sagemaker", "create-model", "--model-name", "cli-model"),
        *("--primary-container", json.dumps(container), "--execution-role-arn", job["RoleArn"]),
    )
    aws(
        *(aws_cli, "sagemaker", "create-endpoint-config"),
        *("--endpoint-config-name", "cli-config"),
        *("--production-variants", json.dumps([variant | {"InitialInstanceCount": 1}])),
    )
    name = ("--endpoint-name", "cli-endpoint")
    config = ("--endpoint-config-name", "cli-config")
    aws(aws_cli, "sagemaker", "create-endpoint", *name, *config)
    waiter = running.client("sagemaker").get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="cli-endpoint", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    aws(aws_cli, "sagemaker", "wait", "endpoint-in-service", *name)
    return "cli-endpoint"


def test_a_job_described_by_a_file_is_created_and_awaited(job: dict[str, Any]) -> None:
    assert job["TrainingJobStatus"] == "Completed"
    assert job["HyperParameters"] == {"rate": "0.25"}


def test_a_query_picks_the_metric(aws_cli: Client, job: dict[str, Any]) -> None:
    loss = aws(
        *(aws_cli, "sagemaker", "describe-training-job", "--training-job-name", "cli-job"),
        *("--query", "FinalMetricDataList[?MetricName=='loss'].Value | [0]"),
    )
    assert loss == pytest.approx(0.25 + 1 / 3, abs=1e-3)


def test_jobs_are_listed_by_filters(aws_cli: Client, job: dict[str, Any]) -> None:
    filters = ("--status-equals", "Completed", "--name-contains", "CLI-")
    names = aws(
        *(aws_cli, "sagemaker", "list-training-jobs", *filters),
        *("--query", "TrainingJobSummaries[].TrainingJobName"),
    )
    assert names == ["cli-job"]


def test_tags_are_listed(aws_cli: Client, job: dict[str, Any]) -> None:
    found = aws(aws_cli, "sagemaker", "list-tags", "--resource-arn", job["TrainingJobArn"])
    assert found["Tags"] == [{"Key": "team", "Value": "dogs"}]


def test_the_lines_of_a_job_are_in_its_log_stream(aws_cli: Client, job: dict[str, Any]) -> None:
    prefix = ("--log-stream-name-prefix", "cli-job/algo-1-")
    names = ("--query", "logStreams[].logStreamName")
    group = ("--log-group-name", GROUP)
    (stream,) = aws(aws_cli, "logs", "describe-log-streams", *group, *prefix, *names)
    said = ("--query", "events[].message")
    lines = aws(aws_cli, "logs", "get-log-events", *group, "--log-stream-name", stream, *said)
    assert [line.split()[0] for line in lines] == ["epoch=1", "epoch=2", "epoch=3"]
    pattern = ("--filter-pattern", "epoch=2")
    found = aws(
        aws_cli, "logs", "filter-log-events", *group, "--log-stream-names", stream, *pattern, *said
    )
    assert found == lines[1:2]


def test_the_model_is_copied_from_s3(aws_cli: Client, job: dict[str, Any]) -> None:
    copied = aws_cli.run("aws", "s3", "cp", job["ModelArtifacts"]["S3ModelArtifacts"], "model.tgz")
    assert copied.returncode == 0, copied.stderr
    model = unpack((aws_cli.folder / "model.tgz").read_bytes(), "model.json")
    assert json.loads(model) == {"rate": 0.25, "photos": ["a.jpg", "b.jpg"]}


def test_a_synchronized_folder_is_not_copied_again(aws_cli: Client, photos: str) -> None:
    again = aws_cli.run("aws", "s3", "sync", "photos", photos)
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""


def test_an_endpoint_answers_with_the_jobs_model(aws_cli: Client, endpoint: str) -> None:
    (aws_cli.folder / "question.json").write_text('{"size": 3}')
    told = aws(
        *(aws_cli, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", endpoint),
        *("--content-type", "application/json", "--body", "file://question.json", "answer.json"),
    )
    assert told["InvokedProductionVariant"] == "all"
    answer = json.loads((aws_cli.folder / "answer.json").read_text())
    assert answer["asked"] == '{"size": 3}'
    assert answer["model"]["rate"] == 0.25


def test_a_deleted_endpoint_is_gone(aws_cli: Client, endpoint: str) -> None:
    name = ("--endpoint-name", endpoint)
    aws(aws_cli, "sagemaker", "delete-endpoint", *name)
    aws(aws_cli, "sagemaker", "wait", "endpoint-deleted", *name)
    aws(aws_cli, "sagemaker", "delete-endpoint-config", "--endpoint-config-name", "cli-config")
    aws(aws_cli, "sagemaker", "delete-model", "--model-name", "cli-model")
    assert "Could not find endpoint" in refusal(aws_cli, "sagemaker", "describe-endpoint", *name)
    for kind in ("models", "endpoint-configs", "endpoints"):
        (found,) = aws(aws_cli, "sagemaker", f"list-{kind}").values()
        assert not [each for each in found if "cli-" in json.dumps(each)]


def test_a_missing_job_is_told_as_aws_tells_it(aws_cli: Client) -> None:
    said = refusal(aws_cli, "sagemaker", "describe-training-job", "--training-job-name", "nope")
    assert said == (
        "An error occurred (ValidationException) when calling the DescribeTrainingJob operation: "
        "Requested resource not found."
    )


def test_a_name_that_is_taken_is_refused(aws_cli: Client, job: dict[str, Any]) -> None:
    said = refusal(
        aws_cli, "sagemaker", "create-training-job", "--cli-input-json", "file://job.json"
    )
    assert "(ResourceInUse) when calling the CreateTrainingJob operation" in said
    assert job["TrainingJobArn"] in said
