"""Data sets of photos arrive whole and in the same tree, by each mode and distribution."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from local.objects import ObjectReader, StoredObject
from local.training.channels import BadChannel, Source, place, shard, sources
from tests.local.running import Running, await_end, channel, program, sagemaker, training_request

FOLDERS, OBJECTS = 133, 12_000
COUNT = """
import hashlib, json, os
base = os.environ["SAGEMAKER_BASE_DIR"]
found = {}
for folder, _, files in os.walk(f"{base}/input/data"):
    for file in files:
        path = os.path.join(folder, file)
        with open(path, "rb") as opened:
            found[os.path.relpath(path, f"{base}/input/data")] = opened.read().decode()
with open(f"{base}/model/{os.uname().nodename}.json", "w") as out:
    json.dump(found, out)
host = json.load(open(f"{base}/input/config/resourceconfig.json"))["current_host"]
os.rename(f"{base}/model/{os.uname().nodename}.json", f"{base}/model/{host}.json")
"""


def key(number: int) -> str:
    """Nested, and many a folder, as the dogs' are: train/001.Breed/side/Breed_00001.jpg"""
    breed = number % FOLDERS
    side = "left" if number % 2 else "right"
    return f"{breed:03}.Breed {breed}/{side}/Breed_{number:05}.jpg"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose bucket `photos` has the whole data set under dogs/train/."""
    folder = tmp_path_factory.mktemp("many")
    with sagemaker(folder, images={"count": program(folder / "count", "train", COUNT)}) as running:
        running.bucket()
        s3 = running.client("s3", max_pool_connections=16)

        def put(number: int) -> None:
            body = f"photo {number}".encode()
            s3.put_object(Bucket="photos", Key=f"dogs/train/{key(number)}", Body=body)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(put, range(OBJECTS)))
        yield running


def arrived(running: Running, name: str, hosts: int = 1, **source: Any) -> list[dict[str, str]]:
    """What each host found in its channel: path → content."""
    request = training_request(
        name,
        "count",
        "s3://photos",
        InputDataConfig=[channel("train", "s3://photos/dogs/train/", **source)],
        OutputDataConfig={"S3OutputPath": "s3://photos/output", "CompressionType": "NONE"},
    )
    request["ResourceConfig"]["InstanceCount"] = hosts
    running.client("sagemaker").create_training_job(**request)
    job = await_end(running.client("sagemaker"), name)
    assert job["TrainingJobStatus"] == "Completed", job
    return [
        json.loads(
            running.client("s3")
            .get_object(Bucket="photos", Key=f"output/{name}/output/model/algo-{host}.json")["Body"]
            .read()
        )
        for host in range(1, hosts + 1)
    ]


WHOLE = {f"train/{key(number)}": f"photo {number}" for number in range(OBJECTS)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_twelve_thousand_photos_arrive_in_the_same_tree(many: Running, mode: str) -> None:
    (found,) = arrived(many, f"whole-{mode}", InputMode=mode)
    assert found == WHOLE


@pytest.mark.timeout(600)
def test_sharded_photos_arrive_each_on_one_host(many: Running) -> None:
    parts = arrived(many, "sharded", hosts=3, S3DataDistributionType="ShardedByS3Key")
    assert [len(part) for part in parts] == [OBJECTS // 3] * 3
    assert parts[0] | parts[1] | parts[2] == WHOLE


def test_a_manifest_names_the_photos_that_arrive(many: Running) -> None:
    wanted = [key(number) for number in (5, 500, 5000)]
    manifest = json.dumps([{"prefix": "s3://photos/dogs/train/"}, *wanted])
    many.client("s3").put_object(Bucket="photos", Key="some.manifest", Body=manifest.encode())
    request = training_request(
        "manifest",
        "count",
        "s3://photos",
        InputDataConfig=[channel("train", "s3://photos/some.manifest", S3DataType="ManifestFile")],
        OutputDataConfig={"S3OutputPath": "s3://photos/output", "CompressionType": "NONE"},
    )
    many.client("sagemaker").create_training_job(**request)
    assert await_end(many.client("sagemaker"), "manifest")["TrainingJobStatus"] == "Completed"
    body = many.client("s3").get_object(
        Bucket="photos", Key="output/manifest/output/model/algo-1.json"
    )["Body"]
    assert json.load(body) == {f"train/{name}": WHOLE[f"train/{name}"] for name in wanted}


class FewObjects(ObjectReader):
    """S3 with the keys it is given; bodies are their own keys."""

    def __init__(self, folder: Path, *keys: str) -> None:
        self._stored = []
        for number, name in enumerate(sorted(keys)):
            blob = folder / str(number)
            blob.write_text(name)
            self._stored.append(StoredObject(name, len(name), "", blob))

    def has_bucket(self, bucket: str) -> bool:
        return bucket == "b"

    def get(self, bucket: str, key: str) -> StoredObject | None:
        return next((stored for stored in self._stored if stored.key == key), None)

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        return (stored for stored in self._stored if stored.key.startswith(prefix))


def paths(objects: ObjectReader, uri: str, **source: Any) -> list[str]:
    found = sources(channel("train", uri, **source), objects, "us-east-1")
    return [str(item.path) for item in found]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b/d/train/", ["a/1.jpg", "b/2.jpg"]),
        ("s3://b/d/train", ["a/1.jpg", "b/2.jpg", "train.csv"]),
        ("s3://b/d/train/a/1.jpg", ["1.jpg"]),
        ("s3://b/d/tr", ["train.csv", "train/a/1.jpg", "train/b/2.jpg"]),
        ("s3://b", ["d/train.csv", "d/train/a/1.jpg", "d/train/b/2.jpg"]),
        ("s3://b/", ["d/train.csv", "d/train/a/1.jpg", "d/train/b/2.jpg"]),
    ],
)
def test_files_lie_where_their_keys_go_on_after_the_prefix(
    tmp_path: Path, uri: str, expected: list[str]
) -> None:
    objects = FewObjects(tmp_path, "d/train/a/1.jpg", "d/train/b/2.jpg", "d/train.csv", "d/train/")
    assert sorted(paths(objects, uri)) == expected


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (("d/../../x",), "leads out of the folder"),
        (("d/a", "d/a/b"), "needs a folder where another key is a file"),
        (("d/a//b", "d/a/b"), "lead to one file"),
    ],
)
def test_keys_that_are_no_tree_of_files_are_refused(
    tmp_path: Path, keys: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(BadChannel, match=sentence):
        paths(FewObjects(tmp_path, *keys), "s3://b/d/")


@pytest.mark.parametrize("manifest", ["{", "{}", "[1]", "[]", '[{"prefix": 1}, "a"]'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, manifest: str) -> None:
    objects = FewObjects(tmp_path, "m")
    objects._stored[0].path.write_text(manifest)
    with pytest.raises(BadChannel, match=r"is not a list such as|No S3 objects"):
        paths(objects, "s3://b/m", S3DataType="ManifestFile")


def test_a_manifest_without_prefix_holds_whole_uris(tmp_path: Path) -> None:
    objects = FewObjects(tmp_path, "m", "x/1.jpg")
    objects._stored[0].path.write_text('["s3://b/x/1.jpg"]')
    assert paths(objects, "s3://b/m", S3DataType="ManifestFile") == ["x/1.jpg"]


def test_a_manifest_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    objects = FewObjects(tmp_path, "m")
    objects._stored[0].path.write_text('["s3://b/x/1.jpg"]')
    with pytest.raises(BadChannel, match=r"s3://b/x/1\.jpg, named by s3://b/m, does not exist"):
        paths(objects, "s3://b/m", S3DataType="ManifestFile")


def test_a_manifest_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    objects = FewObjects(tmp_path, "m", "x//tmp/1.jpg")
    objects._stored[0].path.write_text('[{"prefix": "s3://b/x/"}, "/tmp/1.jpg"]')
    assert paths(objects, "s3://b/m", S3DataType="ManifestFile") == ["tmp/1.jpg"]


def test_shards_differ_by_at_most_one_and_leave_nothing_out(tmp_path: Path) -> None:
    found = [
        Source(PurePosixPath(str(number)), StoredObject(str(number), 0, "", tmp_path))
        for number in range(10)
    ]
    sharded = channel("train", "s3://b", S3DataDistributionType="ShardedByS3Key")
    parts = [shard(found, sharded, host, 3) for host in range(3)]
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert {item.path for part in parts for item in part} == {item.path for item in found}


def test_a_copied_file_may_be_changed_without_harm_to_s3(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    objects = FewObjects(tmp_path / "s3", "d/a")
    found = sources(channel("train", "s3://b/d/"), objects, "us-east-1")
    place(found, tmp_path / "train", link=False, progress=lambda done, total: None)
    (tmp_path / "train" / "a").write_text("changed")
    assert found[0].stored.path.read_text() == "d/a"


def test_linked_files_take_no_space(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    found = sources(channel("train", "s3://b/d/"), FewObjects(tmp_path / "s3", "d/a"), "us-east-1")
    place(found, tmp_path / "train", link=True, progress=lambda done, total: None)
    assert (tmp_path / "train" / "a").samefile(found[0].stored.path)


def test_progress_is_told_up_to_the_last_object(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    objects = FewObjects(tmp_path / "s3", *(f"d/{number}" for number in range(700)))
    told: list[tuple[int, int]] = []
    found = sources(channel("train", "s3://b/d/"), objects, "us-east-1")
    place(found, tmp_path / "t", link=False, progress=lambda *counts: told.append(counts))
    assert told == [(256, 700), (512, 700), (700, 700)]
