"""Which operation of SageMaker is answered by what; all others are refused."""

from collections.abc import Callable, Mapping

from local.hosting.endpoint_configs import EndpointConfigs
from local.hosting.endpoints import Endpoints
from local.hosting.models import Models
from local.site import Site
from local.store import Document
from local.tags import Tags
from local.training.jobs import TrainingJobs
from local.transform.jobs import TransformJobs
from local.tuning.jobs import TuningJobs
from local.wire import Refused

Operation = Callable[[Document], Document]


class Operations:
    """All that this server can do for SageMaker's clients, and what it has running."""

    def __init__(self, site: Site) -> None:
        self.training = TrainingJobs(site)
        self.tuning = TuningJobs(site, self.training)
        self.models = Models(site)
        self.endpoint_configs = EndpointConfigs(site)
        self.endpoints = Endpoints(site)
        self.transforms = TransformJobs(site)
        self._store = site.store
        self._table = self._operations(Tags(site))

    def find(self, name: str) -> Operation:
        """Raises Refused for an operation that is not run here."""
        if name not in self._table:
            raise Refused(
                "UnknownOperationException",
                f"The local SageMaker does not run {name}. It runs {', '.join(self._table)}.",
                404,
            )
        return self._table[name]

    def recover(self) -> None:
        """After a start: what was running has ended, endpoints come back."""
        self.training.recover()
        self.tuning.recover()
        self.transforms.recover()
        self.endpoints.recover()

    def end(self) -> None:
        """Ends all that runs; a tuning job before its trials, so that it starts no new ones."""
        self.tuning.end()
        self.training.end()
        self.transforms.end()
        self.endpoints.end()

    def alive(self) -> dict[str, list[str]]:
        """The names of what runs now, by kind, for `kennel local status`."""
        return {
            "training jobs": self._names("training-job", "TrainingJob"),
            "tuning jobs": self._names("hyper-parameter-tuning-job", "HyperParameterTuningJob"),
            "transform jobs": self._names("transform-job", "TransformJob"),
            "endpoints": self._names("endpoint", "Endpoint"),
        }

    def _names(self, kind: str, prefix: str) -> list[str]:
        return [
            str(document[f"{prefix}Name"])
            for document in self._store.all(kind)
            if document[f"{prefix}Status"] not in ("Completed", "Failed", "Stopped")
        ]

    def _operations(self, tags: Tags) -> Mapping[str, Operation]:
        return {
            "CreateTrainingJob": self.training.create,
            "DescribeTrainingJob": self.training.describe,
            "ListTrainingJobs": self.training.list,
            "StopTrainingJob": self.training.stop,
            "DeleteTrainingJob": self.training.delete,
            "UpdateTrainingJob": self.training.update,
            "CreateHyperParameterTuningJob": self.tuning.create,
            "DescribeHyperParameterTuningJob": self.tuning.describe,
            "ListHyperParameterTuningJobs": self.tuning.list,
            "StopHyperParameterTuningJob": self.tuning.stop,
            "DeleteHyperParameterTuningJob": self.tuning.delete,
            "ListTrainingJobsForHyperParameterTuningJob": self.tuning.list_training_jobs,
            "CreateModel": self.models.create,
            "DescribeModel": self.models.describe,
            "ListModels": self.models.list,
            "DeleteModel": self.models.delete,
            "CreateEndpointConfig": self.endpoint_configs.create,
            "DescribeEndpointConfig": self.endpoint_configs.describe,
            "ListEndpointConfigs": self.endpoint_configs.list,
            "DeleteEndpointConfig": self.endpoint_configs.delete,
            "CreateEndpoint": self.endpoints.create,
            "DescribeEndpoint": self.endpoints.describe,
            "ListEndpoints": self.endpoints.list,
            "DeleteEndpoint": self.endpoints.delete,
            "UpdateEndpoint": self.endpoints.update,
            "UpdateEndpointWeightsAndCapacities": self.endpoints.update_weights,
            "CreateTransformJob": self.transforms.create,
            "DescribeTransformJob": self.transforms.describe,
            "ListTransformJobs": self.transforms.list,
            "StopTransformJob": self.transforms.stop,
            "AddTags": tags.add,
            "ListTags": tags.list,
            "DeleteTags": tags.delete,
        }
