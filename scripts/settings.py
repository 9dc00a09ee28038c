"""Every name and default an operator may change, as one checked, frozen value: kennel.toml."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Rule = Literal[
    "VanishingGradient",
    "Overfit",
    "Overtraining",
    "PoorWeightInitialization",
    "LossNotDecreasing",
    "LowGPUUtilization",
    "ProfilerReport",
]
RULES: tuple[Rule, ...] = get_args(Rule)
# Beside the photos, under NAME/: what jobs and endpoints read and write.
OTHERS = (
    "output",
    "pretrained",
    "checkpoints",
    "debug",
    "manifests",
    "capture",
    "async",
    "transform",
)
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")]
Text = Annotated[str, Field(coerce_numbers_to_str=True)]  # an account unquoted, in --set
Repository = Annotated[str, Field(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", max_length=256)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Aws(Section):
    """Where on AWS."""

    region: Text = Field(
        "", description="Region; empty: as the SDK finds it (AWS_REGION, profile)."
    )
    account: Text = Field(
        "",
        pattern=r"^(\d{12})?$",
        description="Account number; empty: the role's, or STS is asked.",
    )
    role: Text = Field(
        "kennel-execution",
        min_length=1,
        description="What jobs and models may do: the execution role's name or ARN.",
    )
    bucket: Text = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$",
        description="Bucket of photos and results; empty: NAME-sagemaker-REGION-ACCOUNT.",
    )


class Images(Section):
    """The two images, three with the one for GPUs, and their repositories in ECR."""

    train: Repository = Field("kennel-train", description="Repository of the image that trains.")
    serve: Repository = Field(
        "kennel-serve", description="Repository of the image that answers on CPUs."
    )
    serve_gpu: Repository = Field(
        "kennel-serve-gpu", description="Repository of the image that answers on GPUs."
    )
    tag: str = Field(
        "latest", pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$", description="Tag of all three."
    )
    registry: Text = Field(
        "",
        # A name without dot and port would be taken for a user's at Docker Hub.
        pattern=r"^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+|localhost)?$",
        description="HOST or HOST:PORT of a registry in front of ECR; empty: ECR's own "
        "(ACCOUNT.dkr.ecr…).",
    )
    platform: Literal["linux/amd64", "linux/arm64"] = Field(
        "linux/amd64", description="Processor of the instances; arm64: Graviton (ml.c7g and kin)."
    )
    max_gb: float = Field(
        10.0, gt=0, description="GB (10^9 bytes) above which an image is not pushed."
    )
    keep: int = Field(10, ge=1, le=1000, description="Images ECR keeps of each; older ones expire.")


class Data(Section):
    """Photos and first weights."""

    prefix: str = Field(
        "photos", pattern=r"^[^/].*[^/]$|^[^/]$", description="S3 prefix of the photos."
    )
    max_side: int = Field(
        512, ge=32, le=8192, description="Pixels of the longer side after `data prepare`."
    )
    quality: int = Field(90, ge=1, le=100, description="JPEG quality of `data prepare`.")
    valid_share: float = Field(0.1, gt=0, lt=1, description="Of a flat folder, for validation.")
    test_share: float = Field(0.1, gt=0, lt=1, description="Of a flat folder, for the test.")
    url: str = Field(
        "https://s3-us-west-1.amazonaws.com/udacity-aind/dog-project/dogImages.zip",
        description="Archive that `data fetch` brings unless told another.",
    )
    sha256: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="Of that archive; empty: shown, not checked."
    )

    @field_validator("prefix")
    @classmethod
    def _apart(cls, prefix: str) -> str:
        first = prefix.split("/")[0]
        if first in OTHERS:
            raise ValueError(f"{first}/ holds other things than photos; take photos/{prefix}")
        return prefix


class Job(Section):
    """What training jobs and trials share."""

    instance: InstanceType = Field("ml.g4dn.xlarge", description="Instance type.")
    instances: int = Field(1, ge=1, le=100, description="Instances of one job.")
    volume_gb: int = Field(30, ge=1, le=16384, description="Disk of an instance, GB.")
    max_hours: float = Field(6.0, gt=0, le=672, description="A job that takes longer is stopped.")
    spot: bool = Field(False, description="Managed spot instances: cheaper, may be interrupted.")
    max_wait_hours: float = Field(
        12.0, gt=0, le=672, description="Spot: hours to the end with all waiting."
    )
    input_mode: Literal["File", "FastFile"] = Field(
        "FastFile", description="FastFile: read when needed; File: copied before the start."
    )


class Train(Job):
    """`kennel train`."""

    checkpoints: bool = Field(True, description="Checkpoints to S3, so that spot jobs go on.")
    weights: Text = Field(
        "",
        description="First weights: s3:// URI, or file name under NAME/pretrained; empty: none.",
    )
    rules: tuple[Rule, ...] = Field(RULES, description="Debugger and profiler rules; []: none.")
    save_interval: int = Field(
        50, ge=1, description="Steps between two saved losses and gradients, for the rules."
    )
    hyperparameters: Mapping[str, Any] = Field(
        default_factory=dict, description="Of the trainer; see the table of hyperparameters."
    )


class Range(Section):
    """Numbers from `min` to `max` (whole ones if both are), or one of `values`."""

    min: float | int | None = None
    max: float | int | None = None
    scaling: Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"] = "Auto"
    values: tuple[str | int | float, ...] = Field((), max_length=30)

    @model_validator(mode="after")
    def _one_kind(self) -> "Range":
        numbers = self.min is not None and self.max is not None
        if numbers == bool(self.values) or (self.min is None) != (self.max is None):
            raise ValueError("give min and max, or values")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min} is larger than max={self.max}")
        return self


RANGES = {
    "lr": Range(min=0.0001, max=0.01, scaling="Logarithmic"),
    "batch_size": Range(values=(16, 32, 64, 128)),
    "epochs": Range(min=5, max=30),
}


class Tune(Job):
    """`kennel tune`."""

    strategy: Literal["Bayesian", "Random", "Hyperband", "Grid"] = Field(
        "Bayesian", description="Bayesian, Random, Hyperband or Grid."
    )
    objective: str = Field("valid_loss", description="Metric that trials are compared by.")
    direction: Literal["Minimize", "Maximize"] = Field(
        "Minimize", description="Minimize or Maximize it."
    )
    trials: int = Field(12, ge=1, le=750, description="Trials in all.")
    parallel: int = Field(2, ge=1, le=100, description="Trials at a time.")
    early_stopping: Literal["Off", "Auto"] = Field(
        "Auto", description="Auto: trials that fall behind are stopped."
    )
    seed: int | None = Field(None, ge=0, description="Makes the search repeatable.")
    hyperparameters: Mapping[str, Any] = Field(
        default_factory=dict, description="Of all trials, instead of train.hyperparameters."
    )
    ranges: Mapping[str, Range] = Field(
        default_factory=lambda: dict(RANGES), description="What is varied, by hyperparameter."
    )


class Deploy(Section):
    """`kennel deploy` and `kennel transform`."""

    endpoint: Text = Field(
        "",
        pattern=r"^([a-zA-Z0-9](-*[a-zA-Z0-9]){0,62})?$",
        description="The endpoint's name; empty: NAME.",
    )
    kind: Literal["realtime", "serverless", "async"] = Field(
        "realtime",
        description="realtime: instances that answer at once; serverless: none, a request is paid; "
        "async: instances that answer into S3.",
    )
    instance: InstanceType = Field("ml.m5.large", description="Instance type of the endpoint.")
    instances: int = Field(1, ge=1, le=100, description="Instances at first, or for good.")
    max_instances: int = Field(
        0, ge=0, le=1000, description="Autoscaling up to so many; 0: no autoscaling."
    )
    invocations_per_instance: float = Field(
        600.0, gt=0, description="A minute, at which autoscaling adds an instance."
    )
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = Field(
        3072, description="Serverless: memory, MB."
    )
    max_concurrency: int = Field(
        10, ge=1, le=200, description="Serverless: requests at a time; asynchronous: an instance."
    )
    capture: int = Field(
        0, ge=0, le=100, description="Per cent of requests and answers kept in S3; 0: none."
    )
    startup_s: int = Field(600, ge=60, le=3600, description="Seconds to the first good /ping.")
    rollback: bool = Field(
        True, description="An alarm on errors, which takes an update back; not for serverless."
    )
    bake_s: int = Field(
        120,
        ge=0,
        le=3600,
        description="Seconds for which the alarm watches an update before the old instances go.",
    )
    environment: Mapping[str, Text] = Field(
        default_factory=dict, description="SERVE_* variables of the container."
    )


class Settings(Section):
    """The whole file."""

    name: str = Field(
        "kennel",
        max_length=12,
        pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        description="All that is made starts with it and is tagged kennel:project with it.",
    )
    aws: Aws = Aws()
    images: Images = Images()
    data: Data = Data()
    train: Train = Train()
    tune: Tune = Tune()
    deploy: Deploy = Deploy()
