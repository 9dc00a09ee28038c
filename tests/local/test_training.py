"""Training jobs, run for real: what the container is given, and what becomes of what it leaves."""

import io
import json
import socket
import subprocess
import sys
import tarfile
import time
from itertools import chain, count
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.local.running import Running, await_end, channel, training_request

BUCKET = "s3://photos"
NUMBERS = count(1)


def create(running: Running, hyperparameters: dict[str, str] | None = None, **members: Any) -> str:
    name = members.pop("TrainingJobName", f"job-{next(NUMBERS)}")
    members.setdefault("HyperParameters", hyperparameters or {})
    request = training_request(name, members.pop("image", "probe"), BUCKET, **members)
    running.client("sagemaker").create_training_job(**request)
    return str(name)


def ended(running: Running, *arguments: Any, **members: Any) -> dict[str, Any]:
    return await_end(running.client("sagemaker"), create(running, *arguments, **members))


def refused(running: Running, **members: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as caught:
        create(running, **members)
    return dict(caught.value.response["Error"])


def body(running: Running, key: str) -> bytes:
    return bytes(running.client("s3").get_object(Bucket="photos", Key=key)["Body"].read())


def archive(running: Running, key: str) -> dict[str, bytes]:
    """The files of an archive in S3."""
    with tarfile.open(fileobj=io.BytesIO(body(running, key))) as opened:
        found = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
        return {name: file.read() for name, file in found.items() if file}


def report(running: Running, job: dict[str, Any]) -> dict[str, Any]:
    key = f"output/{job['TrainingJobName']}/output/output.tar.gz"
    return dict(json.loads(archive(running, key)["report.json"]))


def lines(running: Running, name: str) -> dict[str, list[str]]:
    """The job's log streams, by their host, as CloudWatch Logs has them."""
    logs = running.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return {}
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
    return {
        stream["logStreamName"].split("/")[1].rsplit("-", 1)[0]: [
            event["message"]
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]
        for stream in streams["logStreams"]
    }


def put(running: Running, **files: str) -> None:
    for key, text in files.items():
        running.client("s3").put_object(Bucket="photos", Key=key, Body=text.encode())


def wait_for(running: Running, name: str, secondary: str) -> None:
    client = running.client("sagemaker")
    while client.describe_training_job(TrainingJobName=name)["SecondaryStatus"] != secondary:
        time.sleep(0.02)


def wait_for_line(running: Running, name: str, line: str) -> None:
    while line not in chain.from_iterable(lines(running, name).values()):
        time.sleep(0.05)


def test_a_job_goes_through_the_states_of_aws_to_its_end(running: Running) -> None:
    job = ended(running, {"write": json.dumps({"model/weights.bin": "w", "output/data/a/b": "o"})})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    transitions = job["SecondaryStatusTransitions"]
    states = ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [transition["Status"] for transition in transitions] == states
    assert all(t["StartTime"] <= t["EndTime"] for t in transitions)
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] >= 1
    prefix = f"output/{job['TrainingJobName']}/output"
    artifacts = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert artifacts == f"s3://photos/{prefix}/model.tar.gz"
    assert archive(running, f"{prefix}/model.tar.gz") == {"weights.bin": b"w"}
    assert archive(running, f"{prefix}/output.tar.gz") == {"a/b": b"o"}


def test_uncompressed_results_are_files_of_their_own(running: Running) -> None:
    job = ended(
        running,
        {"write": json.dumps({"model/deep/weights.bin": "w", "output/data/o": "o"})},
        OutputDataConfig={"S3OutputPath": f"{BUCKET}/plain/", "CompressionType": "NONE"},
    )
    prefix = f"plain/{job['TrainingJobName']}/output"
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://photos/{prefix}/model/"
    assert body(running, f"{prefix}/model/deep/weights.bin") == b"w"
    assert body(running, f"{prefix}/data/o") == b"o"


def test_the_container_finds_what_sagemaker_documents(running: Running) -> None:
    put(running, **{"data/train/brindle/1.jpg": "1", "data/train/solid/2.jpg": "2"})
    job = ended(
        running,
        {"report": "yes", "lr": "0.1", "quoted": '"256"'},
        InputDataConfig=[channel("train", f"{BUCKET}/data/train")],
        Environment={"MINE": "42"},
        CheckpointConfig={"S3Uri": f"{BUCKET}/checkpoints/documented"},
        DebugHookConfig={
            "S3OutputPath": f"{BUCKET}/debug",
            "HookParameters": {"save_interval": "10"},
            "CollectionConfigurations": [{"CollectionName": "losses"}],
        },
        ProfilerConfig={"S3OutputPath": f"{BUCKET}/debug", "ProfilingIntervalInMilliseconds": 500},
        TensorBoardOutputConfig={"S3OutputPath": f"{BUCKET}/debug"},
    )
    assert job["TrainingJobStatus"] == "Completed", job
    told = report(running, job)
    config, environment = told["config"], told["environment"]
    base = environment["SAGEMAKER_BASE_DIR"]
    assert "input/data/train/brindle/1.jpg" in told["tree"]
    assert config["hyperparameters.json"] == {"report": "yes", "lr": "0.1", "quoted": '"256"'}
    assert config["inputdataconfig.json"] == {
        "train": {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    }
    resources = config["resourceconfig.json"]
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    assert resources["current_instance_type"] == "ml.m5.xlarge"
    assert resources["instance_groups"][0]["hosts"] == ["algo-1"]
    assert config["checkpointconfig.json"]["LocalPath"] == f"{base}/checkpoints"
    assert config["debughookconfig.json"] == {
        "S3OutputPath": "s3://photos/debug",
        "LocalPath": f"{base}/output/tensors",
        "HookParameters": {"save_interval": "10"},
        "CollectionConfigurations": [{"CollectionName": "losses"}],
    }
    assert config["profilerconfig.json"]["ProfilingIntervalInMilliseconds"] == 500
    assert config["tensorboardoutputconfig.json"]["LocalPath"] == f"{base}/output/tensorboard"
    assert environment["TRAINING_JOB_NAME"] == job["TrainingJobName"]
    assert environment["TRAINING_JOB_ARN"] == job["TrainingJobArn"]
    assert environment["MINE"] == "42"
    assert environment["AWS_REGION"] == "us-east-1"


def test_a_container_sees_nothing_of_the_servers_own_environment(running: Running) -> None:
    told = report(running, ended(running, {"report": "yes"}))
    assert "KENNEL_HOME" not in told["environment"]
    assert not [name for name in told["environment"] if name.startswith("PYTEST")]


def test_a_container_reaches_s3_by_the_variables_it_is_given(running: Running) -> None:
    environment = report(running, ended(running, {"report": "yes"}))["environment"]
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    assert "photos" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_the_failure_file_is_the_reason(running: Running) -> None:
    job = ended(running, {"failure": "No photo of a dog.\n\ntrace…", "exit": "3"})
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    reason = "AlgorithmError: No photo of a dog.\n\ntrace…, exit code: 3"
    assert job["FailureReason"] == reason


def test_a_long_reason_is_cut_where_aws_cuts_it(running: Running) -> None:
    job = ended(running, {"failure": "x" * 2400, "exit": "1"})
    assert len(job["FailureReason"]) == 1024
    assert job["FailureReason"].endswith("xxx, exit code: 1")


def test_without_a_failure_file_the_last_lines_are_the_reason(running: Running) -> None:
    job = ended(running, {"say": '["first", "ValueError: bad photo"]', "exit": "1"})
    expected = "AlgorithmError: first\nValueError: bad photo\ndone, exit code: 1"
    assert job["FailureReason"] == expected


def test_what_a_failed_job_wrote_to_its_output_is_kept(running: Running) -> None:
    job = ended(running, {"write": '{"output/data/o": "o", "model/m": "m"}', "exit": "1"})
    prefix = f"output/{job['TrainingJobName']}/output"
    assert archive(running, f"{prefix}/output.tar.gz") == {"o": b"o"}
    found = running.client("s3").list_objects_v2(Bucket="photos", Prefix=prefix)["Contents"]
    assert [item["Key"] for item in found] == [f"{prefix}/output.tar.gz"]


def test_exit_code_0_is_success_whatever_the_failure_file_says(running: Running) -> None:
    assert ended(running, {"failure": "never mind"})["TrainingJobStatus"] == "Completed"


def test_every_line_is_in_cloudwatch_logs_under_awss_names(running: Running) -> None:
    said = ["eins", "zwei ü", "", "x" * 1000, *map(str, range(150))]
    name = create(running, {"say": json.dumps(said)})
    await_end(running.client("sagemaker"), name)
    found = lines(running, name)["algo-1"]
    assert found == [line or " " for line in said] + ["done"]


def test_metrics_are_read_from_the_lines_by_their_regexes(running: Running) -> None:
    said = ["loss=2.5; accuracy: 0.1", "loss=nan;", "loss=1.5e-1;", "accuracy: high"]
    name = create(
        running,
        {"say": json.dumps(said)},
        AlgorithmSpecification={
            "MetricDefinitions": [
                {"Name": "train:loss", "Regex": "loss=([^;]+);"},
                {"Name": "accuracy", "Regex": r"accuracy: (\S+)"},
                {"Name": "never", "Regex": "never=(.*)"},
            ]
        },
    )
    job = await_end(running.client("sagemaker"), name)
    final = {m["MetricName"]: m["Value"] for m in job["FinalMetricDataList"]}
    assert final == {"train:loss": 0.15, "accuracy": 0.1}
    found = running.client("cloudwatch").get_metric_statistics(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="train:loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": name}],
        StartTime=job["CreationTime"],
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=["SampleCount", "Maximum"],
    )["Datapoints"]
    assert sum(point["SampleCount"] for point in found) == 2
    assert max(point["Maximum"] for point in found) == 2.5


def test_two_hosts_find_each_other_by_name(running: Running) -> None:
    name = create(
        running,
        {"meet": "yes", "write": '{"model/same": "x"}'},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1},
    )
    job = await_end(running.client("sagemaker"), name)
    assert job["TrainingJobStatus"] == "Completed", job
    said = lines(running, name)
    assert said["algo-1"] == ["algo-2 came to algo-1", "done"]
    assert said["algo-2"] == ["algo-2 hears welcome", "done"]


def test_a_host_that_fails_ends_the_job_with_its_reason(running: Running) -> None:
    job = ended(
        running,
        {"exit": "7", "failing_host": "algo-2", "failure": "algo-2 has no photos"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1},
    )
    assert job["FailureReason"] == "AlgorithmError: algo-2 has no photos, exit code: 7"


def test_a_stopped_job_keeps_what_it_saved_on_sigterm(running: Running) -> None:
    client = running.client("sagemaker")
    name = create(running, {"on_term": "exit", "seconds": "60", "say": '["started"]'})
    wait_for_line(running, name, "started")
    client.stop_training_job(TrainingJobName=name)
    assert client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] in (
        "Stopping",
        "Stopped",
    )
    job = await_end(client, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in job
    key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://photos/")
    assert archive(running, key) == {"rescued": b"in time"}
    assert lines(running, name)["algo-1"] == ["started", "got SIGTERM"]
    states = [t["Status"] for t in job["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]


def test_a_job_that_has_ended_is_not_stopped(running: Running) -> None:
    name = ended(running)["TrainingJobName"]
    with pytest.raises(ClientError, match="in status Completed"):
        running.client("sagemaker").stop_training_job(TrainingJobName=name)


def test_max_runtime_stops_the_job_and_keeps_its_results(running: Running) -> None:
    job = ended(
        running,
        {"on_term": "exit", "seconds": "60"},
        StoppingCondition={"MaxRuntimeInSeconds": 2},
    )
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    message = job["SecondaryStatusTransitions"][-1]["StatusMessage"]
    assert message == "Training job runtime exceeded MaxRuntimeInSeconds provided"
    key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://photos/")
    assert archive(running, key) == {"rescued": b"in time"}


def test_checkpoints_are_mirrored_while_the_job_runs(running: Running) -> None:
    uri = f"{BUCKET}/checkpoints/live"
    put(running, **{"checkpoints/live/count": "41"})
    name = create(
        running,
        {"checkpoints": "100", "seconds": "60", "on_term": "exit"},
        CheckpointConfig={"S3Uri": uri},
    )
    wait_for_line(running, name, "start 42")
    while body(running, "checkpoints/live/count") != b"42":
        time.sleep(0.1)
    assert (
        running.client("sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        == "InProgress"
    )
    running.client("sagemaker").stop_training_job(TrainingJobName=name)
    await_end(running.client("sagemaker"), name)


def test_a_spot_instance_that_is_taken_away_is_followed_by_another(running: Running) -> None:
    name = create(
        running,
        {"checkpoints": "2", "seconds": "60", "on_term": "exit"},
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
        CheckpointConfig={"S3Uri": f"{BUCKET}/checkpoints/spot"},
    )
    wait_for_line(running, name, "start 1")
    interrupt(running, name)
    job = await_end(running.client("sagemaker"), name)
    assert job["TrainingJobStatus"] == "Completed", job
    states = [t["Status"] for t in job["SecondaryStatusTransitions"]]
    assert states == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert body(running, "checkpoints/spot/count") == b"2"
    assert job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"]


def interrupt(running: Running, name: str) -> None:
    subprocess.run(
        [Path(sys.executable).with_name("kennel"), "local", "interrupt", name],
        env={"KENNEL_HOME": str(running.home), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )


def test_only_spot_jobs_are_interrupted(running: Running) -> None:
    name = ended(running)["TrainingJobName"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        interrupt(running, name)
    assert b"does not use spot instances" in caught.value.stderr


def test_a_missing_image_is_the_reason_in_awss_words(running: Running) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cats:latest"
    job = ended(running, image=image)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(
        "ClientError: Cannot pull algorithm container. Either the image does not exist or its "
        "permissions are incorrect."
    )
    assert "--image cats=FOLDER" in job["FailureReason"]


def test_an_image_is_known_by_its_ecr_name_too(running: Running) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/probe:1.0"
    assert ended(running, image=image)["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("uri", ["s3://photos/nothing", "s3://no-such-bucket/train"])
def test_a_channel_without_objects_is_the_reason_in_awss_words(running: Running, uri: str) -> None:
    job = ended(running, InputDataConfig=[channel("train", uri)])
    assert job["FailureReason"].startswith(
        f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given in '
        "input data source."
    )
    assert ("bucket does not exist" in job["FailureReason"]) == ("no-such" in uri)
    states = [t["Status"] for t in job["SecondaryStatusTransitions"]]
    assert states == ["Starting", "Downloading", "Failed"]


def test_a_missing_output_bucket_is_noticed_before_the_training(running: Running) -> None:
    job = ended(running, OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/x"})
    assert job["FailureReason"] == (
        "ClientError: Data upload failed:the bucket 'no-such-bucket' of OutputDataConfig does not "
        "exist"
    )
    assert lines(running, job["TrainingJobName"]) == {}


def test_channels_larger_than_the_volume_do_not_fit(running: Running) -> None:
    put(running, **{"large/x": "x" * 100})
    job = ended(
        running,
        InputDataConfig=[channel("train", f"{BUCKET}/large")],
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 0},
    )
    assert "which VolumeSizeInGB of 0 does not hold" in job["FailureReason"]


def test_other_commands_than_train_are_run_if_asked(running: Running) -> None:
    name = create(
        running,
        AlgorithmSpecification={
            "ContainerEntrypoint": ["sh", "-c"],
            "ContainerArguments": ["echo from the shell; exit 4"],
        },
    )
    job = await_end(running.client("sagemaker"), name)
    assert job["FailureReason"] == "AlgorithmError: from the shell, exit code: 4"


def test_a_name_is_taken_once(running: Running) -> None:
    name = ended(running)["TrainingJobName"]
    error = refused(running, TrainingJobName=name)
    assert error["Code"] == "ResourceInUse"
    assert error["Message"].startswith("Job name must be unique within an AWS account and region")


@pytest.mark.parametrize(
    ("members", "code", "sentence"),
    [
        (
            {"ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}},
            "ResourceLimitExceeded",
            "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances",
        ),
        (
            {"EnableManagedSpotTraining": True},
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds. It must be present",
        ),
        ({"EnableNetworkIsolation": True}, "ValidationException", "needs the docker runner"),
        (
            {"InputDataConfig": [channel("train", BUCKET, InputMode="Pipe")]},
            "ValidationException",
            "Pipe mode is not run by the local SageMaker. Use File or FastFile",
        ),
        (
            {
                "InputDataConfig": [
                    channel("train", BUCKET, InputMode="FastFile", S3DataType="ManifestFile")
                ]
            },
            "ValidationException",
            "FastFile mode needs S3DataType S3Prefix",
        ),
        (
            {"InputDataConfig": [channel("train", BUCKET), channel("train", BUCKET)]},
            "ValidationException",
            "Channel names must be unique: train",
        ),
        (
            {"CheckpointConfig": {"S3Uri": BUCKET, "LocalPath": "/somewhere"}},
            "ValidationException",
            "LocalPath '/somewhere' lies outside of /opt/ml",
        ),
        (
            {"CheckpointConfig": {"S3Uri": BUCKET, "LocalPath": "/opt/ml/../../etc"}},
            "ValidationException",
            "LocalPath '/opt/ml/../../etc' lies outside of /opt/ml",
        ),
        (
            {"InputDataConfig": [channel("..", BUCKET)]},
            "ValidationException",
            "A channel can't be called '..'",
        ),
        (
            {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "a", "Regex": "("}]}},
            "ValidationException",
            "Regex of metric 'a' can't be used",
        ),
        (
            {"StoppingCondition": {"MaxWaitTimeInSeconds": 3}},
            "ValidationException",
            "only allowed with EnableManagedSpotTraining",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 0}},
            "ValidationException",
            "InstanceCount must be at least 1",
        ),
    ],
)
def test_what_can_not_be_run_is_refused_at_once(
    running: Running, members: dict[str, Any], code: str, sentence: str
) -> None:
    error = refused(running, **members)
    assert error["Code"] == code
    assert sentence in error["Message"]


def test_a_deleted_job_is_gone_and_a_running_one_is_not_deleted(running: Running) -> None:
    client = running.client("sagemaker")
    name = create(running, {"seconds": "60"})
    wait_for(running, name, "Training")
    with pytest.raises(client.exceptions.ResourceInUse, match="Stop it first"):
        client.delete_training_job(TrainingJobName=name)
    client.stop_training_job(TrainingJobName=name)
    await_end(client, name)
    client.delete_training_job(TrainingJobName=name)
    with pytest.raises(ClientError, match="Requested resource not found"):
        client.describe_training_job(TrainingJobName=name)


def test_the_profiler_of_a_running_job_is_updated_where_it_reads_it(running: Running) -> None:
    client = running.client("sagemaker")
    profiler = {"S3OutputPath": f"{BUCKET}/profile", "ProfilingIntervalInMilliseconds": 500}
    name = create(running, {"seconds": "60", "on_term": "exit"}, ProfilerConfig=profiler)
    wait_for(running, name, "Training")
    client.update_training_job(
        TrainingJobName=name, ProfilerConfig={"ProfilingIntervalInMilliseconds": 1000}
    )
    file = running.home / "jobs" / name / "algo-1" / "input" / "config" / "profilerconfig.json"
    assert json.loads(file.read_text())["ProfilingIntervalInMilliseconds"] == 1000
    with pytest.raises(ClientError, match="ResourceConfig can't be updated"):
        client.update_training_job(
            TrainingJobName=name, ResourceConfig={"KeepAlivePeriodInSeconds": 60}
        )
    client.stop_training_job(TrainingJobName=name)
    job = await_end(client, name)
    assert job["ProfilerConfig"]["S3OutputPath"] == f"{BUCKET}/profile"


def test_what_a_debugger_hook_wrote_is_in_s3_with_its_end_marker(running: Running) -> None:
    name = create(
        running,
        {"write": '{"output/tensors/events/1": "e", "output/tensors/events/2.tmp": "half"}'},
        DebugHookConfig={"S3OutputPath": f"{BUCKET}/debugged"},
        DebugRuleConfigurations=[
            {"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "rules:latest"}
        ],
    )
    job = await_end(running.client("sagemaker"), name)
    assert job["DebugRuleConfigurations"][0]["RuleConfigurationName"] == "Overfit"
    prefix = f"debugged/{name}/debug-output"
    found = running.client("s3").list_objects_v2(Bucket="photos", Prefix=prefix)["Contents"]
    keys = [item["Key"].removeprefix(prefix) for item in found]
    assert keys == ["/events/1", "/training_job_end.ts"]


def test_boto3s_waiter_returns_when_the_job_has_ended(running: Running) -> None:
    name = create(running)
    waiter = running.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    failing = create(running, {"exit": "1"})
    with pytest.raises(WaiterError, match="terminal failure"):
        waiter.wait(TrainingJobName=failing, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def test_jobs_are_listed_and_paged(running: Running) -> None:
    names = [create(running, TrainingJobName=f"listed-{n:02}") for n in range(12)]
    for name in names:
        await_end(running.client("sagemaker"), name)
    pages = (
        running.client("sagemaker")
        .get_paginator("list_training_jobs")
        .paginate(
            NameContains="LISTED", SortBy="Name", SortOrder="Descending", StatusEquals="Completed"
        )
    )
    found = [page["TrainingJobSummaries"] for page in pages]
    assert [len(page) for page in found] == [10, 2]
    assert [job["TrainingJobName"] for job in chain(*found)] == names[::-1]


def test_tags_are_kept_changed_and_deleted_with_the_job(running: Running) -> None:
    client = running.client("sagemaker")
    name = create(running, Tags=[{"Key": "breed", "Value": "merle"}])
    arn = await_end(client, name)["TrainingJobArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "1"}])
    client.delete_tags(ResourceArn=arn, TagKeys=["breed"])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "run", "Value": "1"}]
    client.delete_training_job(TrainingJobName=name)
    with pytest.raises(ClientError, match="Could not find resource"):
        client.list_tags(ResourceArn=arn)


def test_jobs_run_side_by_side(running: Running) -> None:
    names = [create(running, {"seconds": "1.5"}) for _ in range(4)]
    jobs = [await_end(running.client("sagemaker"), name) for name in names]
    latest_start = max(job["TrainingStartTime"] for job in jobs)
    assert latest_start < min(job["TrainingEndTime"] for job in jobs)


def raw(running: Running, name: str, *, share: float) -> None:
    """Sends a part of a CreateTrainingJob and hangs up without reading the answer."""
    body = json.dumps(training_request(name, "probe", BUCKET)).encode()
    host, port = running.url.removeprefix("http://").split(":")
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: SageMaker.CreateTrainingJob\r\n"
        f"Content-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[: int(len(body) * share)])


def test_a_client_that_hangs_up_after_asking_has_its_job(running: Running) -> None:
    raw(running, "hung-up", share=1)
    client = running.client("sagemaker")
    while not client.list_training_jobs(NameContains="hung-up")["TrainingJobSummaries"]:
        time.sleep(0.05)
    assert await_end(client, "hung-up")["TrainingJobStatus"] == "Completed"


def test_a_client_that_hangs_up_while_asking_has_none(running: Running) -> None:
    raw(running, "half-asked", share=0.5)
    client = running.client("sagemaker")
    ended(running)  # the server goes on
    assert client.list_training_jobs(NameContains="half-asked")["TrainingJobSummaries"] == []


def test_a_page_that_gives_its_own_name_this_address_starts_nothing(running: Running) -> None:
    headers = {"Host": "evil.example:4510", "X-Amz-Target": "SageMaker.ListTrainingJobs"}
    answer = httpx.post(running.url, headers=headers, content=b"{}", trust_env=False)
    assert answer.status_code == 403
    assert answer.json()["__type"] == "AccessDeniedException"


LINKING = """
import os, shutil
base = os.environ["SAGEMAKER_BASE_DIR"]
for folder in ("model", "output/data", "output/tensors", "checkpoints"):
    shutil.rmtree(f"{base}/{folder}")
    os.symlink("/etc", f"{base}/{folder}")
"""


def test_links_of_a_container_do_not_lead_to_this_machines_files(
    running: Running, tmp_path: Path
) -> None:
    job = ended(
        running,
        {"run": LINKING},
        CheckpointConfig={"S3Uri": f"{BUCKET}/linked/checkpoints"},
        DebugHookConfig={"S3OutputPath": f"{BUCKET}/linked/debug"},
    )
    assert "leads out of the job's tree" in job["FailureReason"]
    key = f"output/{job['TrainingJobName']}/output/model.tar.gz"
    assert archive(running, key) == {}
    found = running.client("s3").list_objects_v2(Bucket="photos", Prefix="linked/")
    assert found.get("Contents", []) == []
    assert not Path("/etc/training_job_end.ts").exists()


def test_a_regex_that_takes_for_ever_does_not_stop_the_job(running: Running) -> None:
    definitions = [
        {"Name": "slow", "Regex": "(a+)+="},
        {"Name": "loss", "Regex": "loss=([0-9.]+)"},
    ]
    job = ended(
        running,
        {"say": json.dumps(["a" * 40, "loss=0.5"])},
        AlgorithmSpecification={"MetricDefinitions": definitions},
    )
    assert [metric["Value"] for metric in job["FinalMetricDataList"]] == [0.5]


def test_checkpoints_that_can_not_be_mirrored_are_noticed_before_the_training(
    running: Running,
) -> None:
    job = ended(running, CheckpointConfig={"S3Uri": "s3://no-such-bucket/x"})
    assert "the bucket 'no-such-bucket' of CheckpointConfig does not exist" in job["FailureReason"]
