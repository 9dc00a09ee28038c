"""What all parts of the local SageMaker share."""

from dataclasses import dataclass

from local.aws import Aws
from local.logs import Logs
from local.objects import ObjectReader
from local.runners.runner import Runner
from local.settings import LocalSettings
from local.store import Store


@dataclass(frozen=True)
class Site:
    """One running local SageMaker: its settings, memory, S3, logs and what runs containers."""

    settings: LocalSettings
    store: Store
    aws: Aws
    objects: ObjectReader
    logs: Logs
    runner: Runner
