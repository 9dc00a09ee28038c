"""Models: what is kept of them, what is refused, and how their artifacts reach a container."""

import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.hosting import model_data
from local.objects import Changes, ObjectReader, ObjectWriter, Version
from tests.local.running import ROLE, Running, program, sagemaker

NUMBERS = count(1)
ARN = "arn:aws:sagemaker:us-east-1:123456789012:model"
ARTIFACT = "s3://photos/there/model.tar.gz"
PREFIX = {
    "S3DataSource": {
        "S3Uri": "s3://photos/there/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    image = program(tmp_path_factory.mktemp("image"), "serve", "")
    with sagemaker(tmp_path_factory.mktemp("sagemaker"), images={"mine": image}) as running:
        running.bucket()
        running.client("s3").put_object(Bucket="photos", Key="there/model.tar.gz", Body=b"any")
        yield running


def create(running: Running, **members: Any) -> str:
    request = {
        "ModelName": f"model-{next(NUMBERS)}",
        "PrimaryContainer": {"Image": "mine", "ModelDataUrl": ARTIFACT},
        "ExecutionRoleArn": ROLE,
        **members,
    }
    running.client("sagemaker").create_model(
        **{name: value for name, value in request.items() if value is not None}
    )
    return str(request["ModelName"])


def refused(running: Running, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        create(running, **members)
    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    return str(error["Message"])


class TestOperations:
    def test_a_model_is_described_as_it_was_made(self, running: Running) -> None:
        environment = {"SERVE_THREADS": "2"}
        name = create(
            running,
            PrimaryContainer={
                "Image": "mine",
                "ModelDataUrl": ARTIFACT,
                "Environment": environment,
            },
        )
        model = running.client("sagemaker").describe_model(ModelName=name)
        assert model["ModelArn"] == f"{ARN}/{name}"
        assert model["ExecutionRoleArn"] == ROLE
        assert model["EnableNetworkIsolation"] is False
        assert model["PrimaryContainer"] == {
            "Image": "mine",
            "Mode": "SingleModel",
            "ModelDataUrl": ARTIFACT,
            "Environment": environment,
        }
        assert abs(model["CreationTime"].timestamp() - time.time()) < 300

    def test_a_model_may_name_its_one_container_in_a_list(self, running: Running) -> None:
        name = create(running, PrimaryContainer=None, Containers=[{"Image": "mine"}])
        model = running.client("sagemaker").describe_model(ModelName=name)
        assert model["Containers"] == [{"Image": "mine", "Mode": "SingleModel"}]

    def test_a_name_is_used_once(self, running: Running) -> None:
        name = create(running)
        sentence = f'Cannot create already existing model "{ARN}/{name}".'
        assert refused(running, ModelName=name) == sentence

    def test_tags_belong_to_the_model(self, running: Running) -> None:
        name = create(running, Tags=[{"Key": "dogs", "Value": "133"}])
        client = running.client("sagemaker")
        tags = client.list_tags(ResourceArn=f"{ARN}/{name}")["Tags"]
        assert tags == [{"Key": "dogs", "Value": "133"}]
        client.delete_model(ModelName=name)
        create(running, ModelName=name)
        assert client.list_tags(ResourceArn=f"{ARN}/{name}")["Tags"] == []

    def test_models_are_listed_newest_first_in_pages(self, running: Running) -> None:
        names = [create(running, ModelName=f"listed-{number}") for number in range(3)]
        client = running.client("sagemaker")
        first = client.list_models(NameContains="listed", MaxResults=2)
        assert [model["ModelName"] for model in first["Models"]] == [names[2], names[1]]
        rest = client.list_models(NameContains="listed", MaxResults=2, NextToken=first["NextToken"])
        assert [model["ModelName"] for model in rest["Models"]] == [names[0]]
        assert set(rest["Models"][0]) == {"ModelName", "ModelArn", "CreationTime"}

    def test_a_deleted_model_is_gone_and_its_artifact_is_not(self, running: Running) -> None:
        name = create(running)
        client = running.client("sagemaker")
        client.delete_model(ModelName=name)
        for call in (client.describe_model, client.delete_model):
            with pytest.raises(ClientError) as caught:
                call(ModelName=name)
            error = caught.value.response["Error"]
            assert error["Code"] == "ValidationException"
            assert error["Message"] == f'Could not find model "{ARN}/{name}".'
        running.client("s3").head_object(Bucket="photos", Key="there/model.tar.gz")


class TestRefusals:
    @pytest.mark.parametrize(
        ("container", "sentence"),
        [
            (
                {"ModelDataUrl": "s3://photos/no/model.tar.gz"},
                "Could not find model data at s3://photos/no/model.tar.gz.",
            ),
            (
                {"ModelDataUrl": "s3://nowhere/model.tar.gz"},
                "Could not find model data at s3://nowhere/model.tar.gz.",
            ),
            ({"Mode": "MultiModel"}, "Mode MultiModel is not run by the local SageMaker."),
            (
                {"ModelPackageName": "package/1"},
                "ModelPackageName: the local SageMaker does not run model packages.",
            ),
            (
                {"InferenceSpecificationName": "one"},
                "InferenceSpecificationName: the local SageMaker does not run model packages.",
            ),
            (
                {"MultiModelConfig": {"ModelCacheSetting": "Enabled"}},
                "MultiModelConfig: the local SageMaker does not run several models",
            ),
            (
                {"ModelDataUrl": ARTIFACT, "ModelDataSource": PREFIX},
                "ModelDataUrl and ModelDataSource can't both be given.",
            ),
        ],
    )
    def test_what_a_container_can_not_be_made_of_is_refused(
        self, running: Running, container: dict[str, Any], sentence: str
    ) -> None:
        message = refused(running, PrimaryContainer={"Image": "mine", **container})
        assert message.startswith(sentence)

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ({"S3Uri": "s3://photos/no/"}, "Could not find model data at s3://photos/no/."),
            (
                {"S3Uri": "s3://photos/there"},
                "S3Uri of S3DataType S3Prefix must end with a slash, got s3://photos/there.",
            ),
            (
                {"CompressionType": "Gzip"},
                "CompressionType Gzip needs S3DataType S3Object, got S3Prefix.",
            ),
            (
                {"ManifestS3Uri": "s3://photos/manifest"},
                "ManifestS3Uri: the local SageMaker does not read manifests of model data.",
            ),
        ],
    )
    def test_what_a_source_can_not_be_is_refused(
        self, running: Running, source: dict[str, Any], sentence: str
    ) -> None:
        data = {"S3DataSource": {**PREFIX["S3DataSource"], **source}}
        container = {"Image": "mine", "ModelDataSource": data}
        assert refused(running, PrimaryContainer=container) == sentence

    @pytest.mark.parametrize(
        ("members", "sentence"),
        [
            ({"PrimaryContainer": None}, "A model needs a PrimaryContainer."),
            ({"PrimaryContainer": {}}, "A container needs an Image."),
            (
                {"PrimaryContainer": {"Image": "yours:latest"}},
                "Requested image yours:latest not found.",
            ),
            (
                {"Containers": [{"Image": "mine"}]},
                "PrimaryContainer and Containers can't both be given.",
            ),
            (
                {"PrimaryContainer": None, "Containers": [{"Image": "mine"}] * 2},
                "Containers has 2 containers: the local SageMaker does not run inference pipelines",
            ),
            (
                {"InferenceExecutionConfig": {"Mode": "Direct"}},
                "InferenceExecutionConfig.Mode Direct is for several containers",
            ),
            ({"EnableNetworkIsolation": True}, "EnableNetworkIsolation needs the docker runner."),
        ],
    )
    def test_what_a_model_can_not_be_is_refused(
        self, running: Running, members: dict[str, Any], sentence: str
    ) -> None:
        assert refused(running, **members).startswith(sentence)


def archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def stored(folder: Path, objects: Mapping[str, bytes]) -> ObjectReader:
    """S3 with one bucket."""
    writer = ObjectWriter(folder)
    keys = {}
    for key, body in objects.items():
        blob = writer.new_blob(body)
        keys["photos", key] = [Version("", blob.size, blob.md5, blob.name)]
    writer.commit(Changes({"photos": ""}, keys))
    writer.close()
    return ObjectReader(folder)


def brought(tmp_path: Path, objects: Mapping[str, bytes], source: Mapping[str, Any]) -> Any:
    """The files a container finds, by their paths."""
    folder = tmp_path / "tree" / "model"
    model_data.bring(source, stored(tmp_path / "s3", objects), folder, link=True)
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def source(uri: str, kind: str, compression: str = "None") -> dict[str, Any]:
    where = {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}
    return {"ModelDataSource": {"S3DataSource": where}}


class TestArtifacts:
    FILES = {"weights": "heavy", "code/inference.py": "pass"}  # noqa: RUF012 - is only read

    @pytest.mark.parametrize(
        "container",
        [
            {"ModelDataUrl": "s3://photos/m.tar.gz"},
            {"ModelDataUrl": "https://s3.us-east-1.amazonaws.com/photos/m.tar.gz"},
            source("s3://photos/m.tar.gz", "S3Object", "Gzip"),
        ],
    )
    def test_an_archive_is_unpacked(self, tmp_path: Path, container: dict[str, Any]) -> None:
        objects = {"m.tar.gz": archive(self.FILES)}
        assert brought(tmp_path, objects, container) == self.FILES

    def test_a_prefix_is_a_folder(self, tmp_path: Path) -> None:
        objects = {f"run/model/{name}": text.encode() for name, text in self.FILES.items()}
        objects |= {"run/model/": b"", "run/model-2/other": b"no"}
        container = source("s3://photos/run/model/", "S3Prefix")
        assert brought(tmp_path, objects, container) == self.FILES

    def test_an_object_that_is_not_packed_is_a_file(self, tmp_path: Path) -> None:
        container = source("s3://photos/run/model.onnx", "S3Object")
        objects = {"run/model.onnx": b"heavy"}
        assert brought(tmp_path, objects, container) == {"model.onnx": "heavy"}

    def test_a_model_may_have_no_artifact(self, tmp_path: Path) -> None:
        assert brought(tmp_path, {}, {"Image": "mine"}) == {}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no archive",
            archive(FILES)[:-30],
            archive({"big": "x" * 99_999})[:60],
            archive({"../../outside": "evil"}),
        ],
    )
    def test_what_can_not_be_unpacked_is_told_in_the_services_words(
        self, tmp_path: Path, body: bytes
    ) -> None:
        with pytest.raises(model_data.NoModelData) as caught:
            brought(tmp_path, {"m.tar.gz": body}, {"ModelDataUrl": "s3://photos/m.tar.gz"})
        assert str(caught.value).startswith(
            'Failed to extract model data archive for container "container_1" from URL '
            '"s3://photos/m.tar.gz". Please ensure that the object located at the URL is a valid '
            "tar.gz archive."
        )
        assert not (tmp_path / "outside").exists()

    def test_keys_that_can_not_be_files_side_by_side_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(model_data.NoModelData, match="needs a folder where another key"):
            brought(
                tmp_path,
                {"run/a": b"file", "run/a/b": b"in a folder"},
                source("s3://photos/run/", "S3Prefix"),
            )
