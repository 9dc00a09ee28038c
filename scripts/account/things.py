"""What a project has on AWS, as plain data: what is alive, and what is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from scripts.project import Project


@dataclass(frozen=True)
class Machines:
    """Instances that are paid by the hour. `use` as AWS's price list calls it, such as Hosting;
    empty: at a price that the list does not tell (spot)."""

    instance: str
    count: int
    use: str


@dataclass(frozen=True)
class Thing:
    """`kind` in words, such as training job; `of`: the tuning job of a trial; `ended`: no more
    than a record is left of it."""

    kind: str
    name: str
    arn: str
    state: str = ""
    since: datetime | None = None
    machines: Sequence[Machines] = ()
    detail: str = ""
    of: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Repository:
    """Images of a repository of ECR; `bytes` counts what they share several times."""

    name: str
    arn: str
    images: int
    bytes: int


@dataclass(frozen=True)
class Folder:
    """Objects under one prefix; `old`: earlier versions and marks of deletion."""

    objects: int = 0
    old: int = 0
    bytes: int = 0

    def __add__(self, other: "Folder") -> "Folder":
        return Folder(self.objects + other.objects, self.old + other.old, self.bytes + other.bytes)


@dataclass(frozen=True)
class Data:
    """What lies under s3://BUCKET/NAME/, by folder; `bucket_is_ours`: made for this project."""

    bucket: str
    prefix: str
    folders: Mapping[str, Folder]
    bucket_is_ours: bool

    @property
    def all(self) -> Folder:
        return sum(self.folders.values(), start=Folder())

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class Inventory:
    """`not_visible`: a sentence for each part that AWS does not show."""

    project: Project
    things: Sequence[Thing] = ()
    repositories: Sequence[Repository] = ()
    data: Data | None = None
    not_visible: Sequence[str] = field(default_factory=tuple)

    @property
    def alive(self) -> list[Thing]:
        return [thing for thing in self.things if not thing.ended]

    def document(self) -> dict[str, Any]:
        return {
            "project": self.project.name,
            "things": [asdict(thing) for thing in self.things],
            "images": [asdict(repository) for repository in self.repositories],
            "data": None
            if self.data is None
            else {
                "uri": self.data.uri,
                **asdict(self.data.all),
                "folders": {name: asdict(folder) for name, folder in self.data.folders.items()},
            },
            "not_visible": list(self.not_visible),
        }


def is_named_ours(project: Project, name: str) -> bool:
    """NAME and NAME-…; of NAME-b's things too, which their tags tell apart."""
    return name == project.name or name.startswith(f"{project.name}-")
