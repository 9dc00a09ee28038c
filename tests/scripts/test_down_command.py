"""`kennel down`: nothing of ours is left, and all of others is."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from scripts.account.down_plan import plan_down
from scripts.account.things import Data, Folder, Inventory, Repository, Thing
from scripts.project import Project
from scripts.settings import Settings
from tests.local.running import Running
from tests.scripts.account_things import BUCKET, Owner, tiny_sagemaker
from tests.scripts.aws_answers import denied, json_service
from tests.scripts.kennel_command import KENNEL, Operator

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tiny_sagemaker(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


AS_B = ("--set", "name=kennel-b", "--set", f"aws.bucket={BUCKET}")


def names(status: dict[str, Any]) -> set[tuple[str, str]]:
    return {(thing["kind"], thing["name"]) for thing in status["things"]}


def test_all_of_a_project_goes_and_all_of_another_stays(
    operator: Operator, running: Running
) -> None:
    ours, theirs = Owner(running), Owner(running, "kennel-b")
    for owner in (theirs, ours):
        owner.train("long", seconds="600", on_term="stop")
        owner.tune("many", seconds="600", on_term="stop")
        owner.train("short")
        owner.endpoint()
        owner.photos(3)
    ours.repository("kennel-train")
    theirs.repository("kennel-serve")
    running.client("s3").put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": ours.tags})
    for owner in (ours, theirs):
        owner.await_jobs("InProgress", 3)
        owner.await_jobs("Completed", 1)
    (operator.folder / ".kennel").mkdir()
    (operator.folder / ".kennel" / "images.json").write_text("{}")
    before = operator.json(*AS_B, "status")

    said = operator.json("down", "--all", "--yes")

    assert said["left"] == []
    deleted = {(one["operation"], one["name"]) for one in said["deleted"]}
    assert deleted >= {
        ("StopTrainingJob", "kennel-train-long"),
        ("StopHyperParameterTuningJob", "kennel-tune-many"),
        ("DeregisterScalableTarget", "endpoint/kennel/variant/AllTraffic"),
        ("DeleteEndpoint", "kennel"),
        ("DeleteAlarms", "kennel-5xx"),
        ("DeleteEndpointConfig", "kennel-conf-1"),
        ("DeleteModel", "kennel-model-1"),
        ("DeleteTrainingJob", "kennel-train-short"),
        ("DeleteTrainingJob", "kennel-train-long"),
        ("DeleteHyperParameterTuningJob", "kennel-tune-many"),
        ("DeleteRepository", "kennel-train"),
        ("DeleteObjects", f"s3://{BUCKET}/kennel/"),
    }
    assert "Nothing of project 'kennel' is alive." in operator.ok("status", "--all")
    status = operator.json("status", "--all")
    assert (status["things"], status["images"]) == ([], [])
    assert status["data"]["objects"] == 0
    assert not (operator.folder / ".kennel" / "images.json").exists()

    after = operator.json(*AS_B, "status")
    assert names(after) == names(before)
    assert after["data"] == before["data"]
    assert [one["name"] for one in after["images"]] == ["kennel-serve"]
    running.client("s3").head_bucket(Bucket=BUCKET)  # the other's photos lie in it
    assert theirs.jobs()["kennel-b-train-long"] == "InProgress"
    operator.ok(*AS_B, "down", "--all", "--yes")


def test_without_a_word_records_images_and_data_stay(operator: Operator, running: Running) -> None:
    owner = Owner(running)
    owner.train("over")
    owner.endpoint()
    owner.repository("kennel-train")
    owner.photos(2)
    owner.await_jobs("Completed", 1)
    shown = operator.ok("down", "--yes")
    assert "delete endpoint kennel" in shown
    assert "Delete them too: --images." in shown
    assert "Delete them too: --data." in shown
    status = operator.json("status", "--all")
    assert names(status) == {("training job", "kennel-train-over")}
    assert [one["name"] for one in status["images"]] == ["kennel-train"]
    assert status["data"]["folders"]["photos"] == {"objects": 2, "old": 0, "bytes": 2000}
    assert "Nothing of project 'kennel' is alive." in operator.ok("down", "--yes"), "once more"
    operator.ok("down", "--all", "--yes")


def test_it_asks_and_where_nobody_answers_it_deletes_nothing(
    operator: Operator, running: Running
) -> None:
    owner = Owner(running)
    owner.model("asked")
    assert "nobody is there to be asked. If it may go: --yes." in operator.refused("down")
    shown = operator.json("down", "--dry-run")
    assert [(one["operation"], one["request"]) for one in shown["delete"]] == [
        ("DeleteModel", {"ModelName": "kennel-model-asked"})
    ]
    assert names(operator.json("status")) == {("model", "kennel-model-asked")}
    operator.ok("down", "--yes")


def test_old_versions_unended_uploads_and_the_bucket_go_with_the_data(
    operator: Operator, running: Running
) -> None:
    s3, bucket = running.client("s3"), "versioned-sagemaker"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": Owner(running).tags})

    def put(index: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"kennel/photos/{index % 550}.jpg", Body=b"x")

    with ThreadPoolExecutor(8) as pool:  # more than one page of a list holds
        list(pool.map(put, range(1100)))
    s3.delete_object(Bucket=bucket, Key="kennel/photos/1.jpg")
    s3.create_multipart_upload(Bucket=bucket, Key="kennel/output/huge")
    there = ("--set", f"aws.bucket={bucket}")
    status = operator.json(*there, "status")
    assert status["data"]["objects"] == 549
    assert status["data"]["old"] == 552
    assert operator.json(*there, "down", "--data", "--yes")["left"] == []
    found = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert bucket not in found


def test_a_bucket_of_somebody_else_is_emptied_of_ours_only(
    operator: Operator, running: Running
) -> None:
    s3, bucket = running.client("s3"), "shared-sagemaker"
    s3.create_bucket(Bucket=bucket)
    for key in ("kennel/photos/1.jpg", "kennel-b/1.jpg", "kennel.txt"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    operator.ok("--set", f"aws.bucket={bucket}", "down", "--data", "--yes")
    left = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert left == ["kennel-b/1.jpg", "kennel.txt"]


def test_an_endpoint_that_is_being_made_is_waited_for(operator: Operator, running: Running) -> None:
    gate = operator.folder / "gate"
    Owner(running).endpoint("kennel-slow", wait=False, STARTS_WITH=str(gate))
    process = operator.start("down", "--yes")
    assert process.stdout is not None
    for line in process.stdout:
        if "AWS deletes it only afterwards" in line:
            break
    gate.touch()
    rest, errors = process.communicate()
    assert process.returncode == 0, rest + errors
    assert "delete endpoint kennel-slow" in rest
    assert operator.json("status")["things"] == []


def test_what_aws_hides_does_not_keep_the_rest_from_going(
    operator: Operator, running: Running
) -> None:
    Owner(running).endpoint("kennel-hidden")
    with json_service(denied) as url:
        operator.variables["AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING"] = url
        said = operator.refused("down", "--yes")
        assert said.startswith("Left:\n  Not visible: autoscaling. DescribeScalableTargets: You")
        assert operator.json("status")["things"] == []
    operator.variables.clear()
    operator.ok("down", "--yes")


def test_two_at_once_do_not_stand_in_each_others_way(operator: Operator, running: Running) -> None:
    owner = Owner(running)
    for index in range(2, 7):
        owner.model(str(index))
    owner.endpoint()
    owner.train("both", seconds="600", on_term="stop")
    owner.await_jobs("InProgress", 1)
    processes = [operator.start("down", "--yes") for _ in range(2)]
    for process in processes:
        out, errors = process.communicate()
        assert process.returncode == 0, out + errors
    assert operator.json("status")["things"] == []
    operator.ok("down", "--jobs", "--yes")


def test_ctrl_c_says_what_is_not_known_to_be_gone(operator: Operator, running: Running) -> None:
    gate = operator.folder / "gate"
    Owner(running).endpoint("kennel-slow", wait=False, STARTS_WITH=str(gate))
    process = operator.start("down", "--yes")
    assert process.stdout is not None
    for line in process.stdout:
        if "AWS deletes it only afterwards" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate()
    assert process.returncode == 130, rest + errors
    assert "Not known to be gone: endpoint kennel-slow" in rest
    assert "endpoint config kennel-conf-kennel-slow" in rest
    gate.touch()
    operator.ok("down", "--yes")


def test_ctrl_c_at_the_question_deletes_nothing(operator: Operator, running: Running) -> None:
    model = Owner(running).model("asked")
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [KENNEL, "down"],
        cwd=operator.folder,
        env=operator.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    shown = b""
    while b"Delete it?" not in shown:
        shown += os.read(terminal, 4096)
    os.write(terminal, b"\x03")  # Ctrl-C
    assert process.wait() == 130
    shown += os.read(terminal, 4096)
    os.close(terminal)
    assert b"Nothing was deleted." in shown
    assert [each["name"] for each in operator.json("status")["things"]] == [model]
    operator.ok("down", "--yes")


def take_terminal() -> None:
    """Makes its stdin the terminal that Ctrl-C comes from."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def thing(kind: str, name: str, **more: Any) -> Thing:
    return Thing(kind, name, f"arn:{name}", **more)


EVERYTHING = Inventory(
    Project(Settings(), "123456789012", "us-east-1"),
    [
        thing("training job", "kennel-train-1", state="InProgress"),
        thing("training job", "kennel-train-0", state="Completed", ended=True),
        thing("training job", "kennel-tune-1-001-ab", state="InProgress", of="kennel-tune-1"),
        thing("tuning job", "kennel-tune-1", state="InProgress"),
        thing("transform job", "kennel-batch-1", state="InProgress"),
        thing("endpoint", "kennel", state="InService"),
        thing(
            "autoscaling",
            "endpoint/kennel/variant/AllTraffic",
            of="sagemaker:variant:DesiredInstanceCount",
        ),
        thing("alarm", "kennel-5xx"),
        thing("endpoint config", "kennel-conf-1"),
        thing("model", "kennel-model-1"),
    ],
    [Repository("kennel-train", "arn", 2, 10)],
    Data("bucket", "kennel/", {"photos": Folder(2, 0, 10)}, bucket_is_ours=True),
)


def test_what_needs_another_goes_before_it_and_trials_with_their_tuning_job() -> None:
    plan = plan_down(EVERYTHING, jobs=True, images=True, data=True)
    assert [(one.stage.name, one.name) for one in plan.deletions] == [
        ("STOP", "kennel-train-1"),
        ("STOP", "kennel-tune-1"),
        ("STOP", "kennel-batch-1"),
        ("SCALING", "endpoint/kennel/variant/AllTraffic"),
        ("ENDPOINT", "kennel"),
        ("ALARM", "kennel-5xx"),
        ("CONFIG", "kennel-conf-1"),
        ("MODEL", "kennel-model-1"),
        ("RECORD", "kennel-tune-1"),
        ("RECORD", "kennel-train-1"),
        ("RECORD", "kennel-train-0"),
        ("RECORD", "kennel-tune-1-001-ab"),
        ("REPOSITORY", "kennel-train"),
        ("DATA", "s3://bucket/kennel/"),
        ("BUCKET", "bucket"),
    ]
    assert "records of 1 transform jobs, which AWS never deletes" in " ".join(plan.kept)


def test_each_request_is_one_that_aws_takes() -> None:
    session = botocore.session.Session()
    for deletion in plan_down(EVERYTHING, jobs=True, images=True, data=True).deletions:
        if call := deletion.call:
            model = session.get_service_model(call.service).operation_model(call.operation)
            report = ParamValidator().validate(call.request, model.input_shape)
            assert not report.has_errors(), report.generate_report()


def test_ended_jobs_are_nothing_to_delete_unless_asked() -> None:
    ended = Inventory(EVERYTHING.project, [EVERYTHING.things[1]])
    assert plan_down(ended).deletions == []
