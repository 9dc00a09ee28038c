import io
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.serve.server_process import free_port
from tests.train.conftest import ScriptJob, tarball
from train.job import BadJob
from train.source import place_source

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
BUCKET = "kennel-sources"
HELLO = {"train.py": "print('hello')"}


def no_download(uri: str, path: str) -> None:
    raise AssertionError(f"asked for {uri}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of an S3 with one bucket; `meta.endpoint_url` is its address."""
    port = free_port()
    server = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(server, env={**os.environ, **KEYS}, **quiet) as process:
        while not listens(port):
            assert process.poll() is None
            time.sleep(0.1)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="y",
        )
        client.create_bucket(Bucket=BUCKET)
        yield client
        process.terminate()


def from_s3(job: ScriptJob, key: str) -> str:
    uri = f"s3://{BUCKET}/{key}"
    job.lay(HELLO, sagemaker_submit_directory=f'"{uri}"')
    return uri


# S3, by the command


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"])
def test_the_source_comes_from_s3(script_job: ScriptJob, s3: Any, variable: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="job/source/sourcedir.tar.gz", Body=tarball(HELLO))
    from_s3(script_job, "job/source/sourcedir.tar.gz")
    done = script_job.run(**{variable: s3.meta.endpoint_url}, **KEYS)
    assert done.returncode == 0, done.stdout + done.stderr
    code = script_job.base / "code"
    assert done.stdout == f"Running in {code}: {sys.executable} train.py\nhello\n"
    assert sorted(path.name for path in script_job.base.iterdir()) == [
        *("code", "input", "model", "output")
    ]


def test_a_source_that_is_not_in_s3_fails_the_job(script_job: ScriptJob, s3: Any) -> None:
    uri = from_s3(script_job, "nowhere.tar.gz")
    assert script_job.run(AWS_ENDPOINT_URL=s3.meta.endpoint_url, **KEYS).returncode == 1
    sentence = f"{uri} (sagemaker_submit_directory) does not exist. Upload the source again.\n"
    assert script_job.failure().startswith(sentence)


def test_a_source_that_is_no_tarball_fails_the_job(script_job: ScriptJob, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="train.py", Body=b"print('hello')")
    uri = from_s3(script_job, "train.py")
    assert script_job.run(AWS_ENDPOINT_URL=s3.meta.endpoint_url, **KEYS).returncode == 1
    assert script_job.failure().startswith(f"{uri} is no tarball, or is damaged (")


def test_without_credentials_the_way_out_is_named(script_job: ScriptJob) -> None:
    uri = from_s3(script_job, "sourcedir.tar.gz")
    assert script_job.run(AWS_EC2_METADATA_DISABLED="true").returncode == 1
    assert script_job.failure().startswith(
        f"{uri} can't be read: there are no AWS credentials here. A container without network "
        "(EnableNetworkIsolation) has to find its source in a channel: "
    )


def test_an_s3_that_does_not_answer_fails_the_job(script_job: ScriptJob) -> None:
    uri = from_s3(script_job, "sourcedir.tar.gz")
    environ = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    assert script_job.run(**environ, **KEYS).returncode == 1
    assert script_job.failure().startswith(f"{uri} can't be read (Could not connect to the")


# What the image has in the code folder


def test_a_jobs_source_wins_over_the_images_code(script_job: ScriptJob) -> None:
    script_job.bake({"train.py": "print('stale')", "labels.py": "", "deep/old.py": ""})
    source = {"train.py": "import os; print(sorted(os.listdir())); import labels"}
    done = script_job.lay(source).run()
    code, aside = script_job.base / "code", script_job.base / "code-set-aside-1"
    sentence = f"{code} was not empty: what it held is now in {aside}; the job's own source is used"
    assert done.stdout.startswith(f"{sentence}.\n")
    assert "\n['train.py']\n" in done.stdout
    assert "No module named 'labels'" in script_job.failure()
    assert (aside / "deep" / "old.py").is_file()
    again = script_job.run()
    assert (script_job.base / "code-set-aside-2" / "train.py").read_text() == source["train.py"]
    assert "\n['train.py']\n" in again.stdout


def test_a_code_folder_that_is_itself_the_source_is_left_alone(script_job: ScriptJob) -> None:
    script_job.bake(HELLO)
    code = script_job.base / "code"
    for name in (str(code), f"file://{code}", "/opt/ml/code"):
        done = script_job.lay({}, sagemaker_submit_directory=name).run()
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "hello"), name
        assert not list(script_job.base.glob("code-*"))


def test_a_source_in_a_channel_or_folder_is_used(script_job: ScriptJob) -> None:
    channel = script_job.base / "input" / "data" / "code"
    channel.mkdir(parents=True)
    (channel / "sourcedir.tar.gz").write_bytes(tarball(HELLO))
    # As the SDK names it under network isolation.
    isolated = '"/opt/ml/input/data/code/sourcedir.tar.gz"'
    script_job.lay({}, sagemaker_submit_directory=isolated)
    assert script_job.run().stdout.endswith("hello\n")
    (channel / "train.py").write_text("print('from a folder')")
    script_job.lay({}, sagemaker_submit_directory=f"file://{channel}")
    assert script_job.run().stdout.endswith("from a folder\n")
    assert (channel / "train.py").is_file()


def test_a_script_that_is_not_in_the_source_fails_the_job(script_job: ScriptJob) -> None:
    script_job.lay({"src/train.py": "", "labels.csv": "", "trian.py": ""})
    script_job.run()
    archive = script_job.base.parent / "sourcedir.tar.gz"
    assert script_job.failure().startswith(
        f"The script 'train.py' (sagemaker_program) is not in {archive}, which holds labels.csv, "
        "src, trian.py. Name it 'src/train.py', or pack that folder's content."
    )


def test_a_code_folder_without_anything_fails_the_job(script_job: ScriptJob) -> None:
    script_job.run(SAGEMAKER_PROGRAM="train.py")
    (script_job.base / "input" / "config").mkdir(parents=True, exist_ok=True)
    assert script_job.failure().startswith(
        f"The script 'train.py' (sagemaker_program) is not in {script_job.base}/code, which holds "
        "nothing. Correct the name, or sagemaker_submit_directory."
    )


def test_a_source_that_does_not_exist_fails_the_job(script_job: ScriptJob) -> None:
    script_job.lay({}, sagemaker_submit_directory="/no/such")
    script_job.run()
    assert script_job.failure().startswith(
        "/no/such (sagemaker_submit_directory) does not exist in this container."
    )


# Tarballs


def archive_with(base: Path, *members: tarfile.TarInfo) -> str:
    path = base.parent / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            content = b"content" if member.isfile() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside.py")],
        [member("deep/../../outside.py")],
        [member("/outside.py")],
        [member("link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "../../outside")],
        [member("link", tarfile.SYMTYPE, "link")],
        [member("link", tarfile.LNKTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "/tmp"), member("link/outside.py")],
        [member("device", tarfile.CHRTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
    ids=lambda members: members[-1].name + members[0].linkname,
)
def test_a_tarball_that_leads_out_of_its_folder_is_refused(
    script_job: ScriptJob, members: list[tarfile.TarInfo]
) -> None:
    script_job.bake(HELLO)
    before = sorted(script_job.base.parent.rglob("*"))
    archive = archive_with(script_job.base, *members)
    with pytest.raises(BadJob, match=rf"^{archive} holds '{members[0].name}', which "):
        place_source(archive, script_job.base, no_download)
    assert sorted(script_job.base.parent.rglob("*")) == sorted([*before, Path(archive)])


def test_links_to_files_of_the_tarball_become_files(script_job: ScriptJob) -> None:
    archive = archive_with(
        script_job.base,
        member(".", tarfile.DIRTYPE),
        member("deep/labels.csv"),
        member("./deep/symbolic.csv", tarfile.SYMTYPE, "labels.csv"),
        member("hard.csv", tarfile.LNKTYPE, "deep/labels.csv"),
    )
    code = place_source(archive, script_job.base, no_download)
    for name in ("deep/labels.csv", "deep/symbolic.csv", "hard.csv"):
        assert (code / name).read_bytes() == b"content"
        assert not (code / name).is_symlink()


def test_a_file_that_could_be_run_still_can(script_job: ScriptJob) -> None:
    run = member("run.sh")
    run.mode = 0o4777
    code = place_source(archive_with(script_job.base, run), script_job.base, no_download)
    assert (code / "run.sh").stat().st_mode & 0o7777 == 0o755


def test_a_tarball_that_is_cut_short_is_refused(script_job: ScriptJob) -> None:
    archive = script_job.base.parent / "short.tar.gz"
    archive.write_bytes(tarball({"train.py": os.urandom(10_000)})[:-5000])
    with pytest.raises(BadJob, match="is no tarball, or is damaged"):
        place_source(str(archive), script_job.base, no_download)
    assert list((script_job.base / "code").iterdir()) == []


def test_a_folder_that_holds_the_jobs_own_tree_is_no_source(script_job: ScriptJob) -> None:
    with pytest.raises(BadJob, match=r"is no folder of source: the job's own tree .* lies in it\."):
        place_source(str(script_job.base.parent), script_job.base, no_download)
