"""All that a project has on AWS, asked for side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from botocore.exceptions import ClientError

from scripts.account.kept_things import find_data, find_repositories
from scripts.account.sagemaker_things import (
    find_configs_and_models,
    find_endpoints,
    find_jobs,
)
from scripts.account.scaling_things import find_alarms, find_scaling
from scripts.account.things import Inventory, Thing
from scripts.aws_errors import BAD_CREDENTIALS, EXPIRED, sentence
from scripts.jobs.find import KINDS
from scripts.project import Project
from scripts.session import Session
from scripts.stack import Stack

T = TypeVar("T")


def take_inventory(session: Session, *, ended: bool = False) -> Inventory:
    """What is alive and what is kept; with `ended` the jobs of the past too. What is named like
    ours but not tagged kennel:project as ours is another's."""
    stack, project, eye = session.stack, session.project, _Eye()
    parts: list[tuple[str, Callable[[], list[Thing]]]] = [
        *(
            (f"{kind.words}s", partial(find_jobs, stack, project, kind, ended=ended))
            for kind in KINDS
        ),
        ("endpoints", partial(_endpoints_and_theirs, eye, stack, project)),
        ("endpoint configs and models", partial(find_configs_and_models, stack, project)),
    ]
    with ThreadPoolExecutor() as pool:
        things = [pool.submit(eye.see, part, look) for part, look in parts]
        repositories = pool.submit(eye.see, "images", lambda: find_repositories(stack, project))
        data = pool.submit(eye.see, f"s3://{project.bucket}", lambda: find_data(stack, project))
    return Inventory(
        project,
        [thing for found in things for thing in found.result()],
        repositories.result(),
        next(iter(data.result()), None),
        sorted(eye.not_visible),
    )


@dataclass
class _Eye:
    """Looks at one part after the other, and notes what AWS does not show."""

    not_visible: list[str] = field(default_factory=list)

    def see(self, part: str, look: Callable[[], list[T]]) -> list[T]:
        try:
            return look()
        except ClientError as error:
            if error.response["Error"]["Code"] in BAD_CREDENTIALS | EXPIRED:
                raise
            self.not_visible.append(f"Not visible: {part}. {sentence(error)}")
            return []


def _endpoints_and_theirs(eye: _Eye, stack: Stack, project: Project) -> list[Thing]:
    ours, others = find_endpoints(stack, project)
    # Of an endpoint that is gone, its alarm and autoscaling may be left.
    names = ({project.endpoint} | {thing.name for thing in ours}) - others
    scaling = eye.see("autoscaling", lambda: find_scaling(stack, names))
    alarms = eye.see("alarms", lambda: find_alarms(stack, project, names))
    return [*ours, *scaling, *alarms]
