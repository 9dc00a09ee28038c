"""What a tuning job asks of its trials: their training job, their objective, their ranges."""

from collections.abc import Mapping
from dataclasses import dataclass

from local.aws import join_uri
from local.store import Document
from local.tuning import ranges
from local.tuning.ranges import Range
from local.wire import invalid

# The hyperparameter by which AWS tells a trial what it is measured by.
OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
# Members that a training job takes over as they are.
SAME = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)


@dataclass(frozen=True)
class Definition:
    """One way to train. Most tuning jobs have one, which has no name."""

    name: str | None
    training: Document  # HyperParameterTrainingJobDefinition
    objective: Document  # HyperParameterTuningJobObjective
    ranges: tuple[Range, ...]

    @property
    def metric(self) -> str:
        return str(self.objective["MetricName"])

    @property
    def maximize(self) -> bool:
        return bool(self.objective["Type"] == "Maximize")

    @property
    def static(self) -> dict[str, str]:
        """Without the one that is added, which a request made from what Describe says has too."""
        given = self.training.get("StaticHyperParameters", {})
        return {name: value for name, value in given.items() if name != OBJECTIVE_HYPERPARAMETER}

    def request(
        self, job: str, hyperparameters: Mapping[str, str], tags: list[dict[str, str]]
    ) -> Document:
        """The CreateTrainingJob of one trial. Raises Refused."""
        request = {member: self.training[member] for member in SAME if member in self.training}
        request |= {
            "TrainingJobName": job,
            "ResourceConfig": resources(self.training),
            "HyperParameters": {
                **self.static,
                **hyperparameters,
                OBJECTIVE_HYPERPARAMETER: self.metric,
            },
            "Tags": tags,
        }
        if "CheckpointConfig" in request:
            # Trials run side by side, and none may go on from another's checkpoints.
            config = request["CheckpointConfig"]
            request["CheckpointConfig"] = config | {"S3Uri": join_uri(config["S3Uri"], job)}
        return request

    def fits(self, trial: Document) -> bool:
        """Whether a training job has the hyperparameters of this definition's trials."""
        names = {found.name for found in self.ranges} | set(self.static)
        return names | {OBJECTIVE_HYPERPARAMETER} == set(trial["HyperParameters"])

    def tuned(self, trial: Document) -> dict[str, str]:
        """TunedHyperParameters of a training job."""
        values = trial["HyperParameters"]
        return {found.name: values[found.name] for found in self.ranges}


def definitions(job: Document) -> list[Definition]:
    """Of a CreateHyperParameterTuningJob, or of what Describe says. Raises Refused."""
    config = job["HyperParameterTuningJobConfig"]
    single, several = job.get("TrainingJobDefinition"), job.get("TrainingJobDefinitions")
    if (single is None) == (several is None):
        raise invalid("You must specify either TrainingJobDefinition or TrainingJobDefinitions.")
    if single is not None:
        objective = config.get("HyperParameterTuningJobObjective")
        return [_definition(single, objective, config.get("ParameterRanges"))]
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if member in config:
            raise invalid(
                f"HyperParameterTuningJobConfig.{member} belongs to TrainingJobDefinition. Each of "
                "TrainingJobDefinitions has its own TuningObjective and HyperParameterRanges."
            )
    found = [_named(definition) for definition in several or []]
    names = [definition.name for definition in found]
    if len(set(names)) < len(names):
        raise invalid(f"DefinitionName must be unique within a tuning job, got {names}.")
    return found


def _named(training: Document) -> Definition:
    if "DefinitionName" not in training:
        raise invalid("Each of TrainingJobDefinitions needs a DefinitionName.")
    return _definition(
        training, training.get("TuningObjective"), training.get("HyperParameterRanges")
    )


def _definition(
    training: Document, objective: Document | None, config: Document | None
) -> Definition:
    if objective is None:
        raise invalid(
            "An objective is required: the metric that the tuning job minimizes or maximizes "
            "(HyperParameterTuningJobObjective, or TuningObjective of each definition)."
        )
    return Definition(
        training.get("DefinitionName"), training, objective, ranges.read(config or {})
    )


def resources(training: Document) -> Document:
    """A trial's ResourceConfig. Of several InstanceConfigs the first: it is always there here."""
    plain = training.get("ResourceConfig")
    flexible = training.get("HyperParameterTuningResourceConfig")
    if (plain is None) == (flexible is None):
        raise invalid(
            "You must specify either ResourceConfig or HyperParameterTuningResourceConfig."
        )
    if flexible is None:
        return dict(plain or {})
    sizes = ("InstanceType", "InstanceCount", "VolumeSizeInGB")
    source = flexible
    if configs := flexible.get("InstanceConfigs"):
        if twice := [member for member in sizes if member in flexible]:
            raise invalid(
                "HyperParameterTuningResourceConfig: if you use InstanceConfigs, do not provide "
                f"values for InstanceType, VolumeSizeInGB or InstanceCount, got {twice[0]}."
            )
        source = configs[0]
    members = {member: source[member] for member in sizes if member in source}
    if "VolumeKmsKeyId" in flexible:
        members["VolumeKmsKeyId"] = flexible["VolumeKmsKeyId"]
    return members
