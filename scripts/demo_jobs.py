"""The demo's jobs and its endpoint: each asked for, watched and told of."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from scripts import demo_requests as requests
from scripts.follow import ended_trials, training_job, training_lines
from scripts.stack import Stack
from scripts.upload import upload_folder

BUCKET = "kennel-demo"
NAME = "kennel-demo"
TRIALS = 3
READY_WITHIN_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is trained, and how the trials of its tuning are cheaper than that.

    `photos` is how many of each class a trial sees, by split. `full` and `trial` are
    hyperparameters; those of `full` win over what was tuned.
    """

    photos: Mapping[str, int]
    trial: Mapping[str, str]
    trial_epochs: tuple[int, int]
    full: Mapping[str, str]


# A small network on small photos learns the painted sample in about a minute; its trials see
# the photos smaller still, and less often.
SMALL = {"architecture": "resnet18", "pretrained": "none"}
FROM_SCRATCH = Plan(
    photos={"train": 60, "valid": 20},
    trial={**SMALL, "image_size": "32"},
    trial_epochs=(2, 4),
    full={**SMALL, "image_size": "64", "epochs": "12"},
)
# Nearly all time goes into the features of the photos, which each trial computes anew.
PRETRAINED = Plan(photos={"train": 12, "valid": 6}, trial={}, trial_epochs=(10, 40), full={})


class JobFailed(Exception):
    """A job of the demo failed; the sentence is SageMaker's."""


@dataclass(frozen=True)
class Best:
    """The tuned hyperparameters, and all trials: each with its values and objective."""

    hyperparameters: Mapping[str, str]
    trials: list[dict[str, Any]]


def put_photos(stack: Stack, console: Console, photos: Path, weights: Path | None) -> None:
    """Everything to S3, under photos/ and pretrained/."""
    stack.s3.create_bucket(Bucket=BUCKET)
    started = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("uploading", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        count = upload_folder(stack, photos, BUCKET, "photos", tell)
    if weights is not None:
        stack.s3.upload_file(str(weights), BUCKET, f"pretrained/{weights.name}")
    console.print(f"{count} photos in {time.monotonic() - started:.1f} s")


class Jobs:
    """Asks SageMaker. Raises JobFailed with what it answered."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack, self._console = stack, console

    def tune(self, photos: Path, weights: Path | None) -> Best:
        plan = _plan(weights)
        channels = [self._sample(photos, split, most) for split, most in plan.photos.items()]
        if weights is None:
            self._say(
                "No pretrained weights (WEIGHTS=file), so a small network learns from nothing."
            )
        request = requests.tuning_request(
            f"{NAME}-tuning",
            BUCKET,
            channels + _pretrained(weights),
            static=plan.trial,
            epochs=plan.trial_epochs,
            trials=TRIALS,
        )
        self._stack.sagemaker.create_hyper_parameter_tuning_job(**request)
        trials: list[dict[str, Any]] = []

        def tell(trial: dict[str, Any]) -> None:
            trials.append(_trial(trial))
            self._say(f"trial {len(trials)}  {_values(trials[-1])}")

        tuned = ended_trials(self._stack, request["HyperParameterTuningJobName"], tell)
        if "BestTrainingJob" not in tuned:
            raise JobFailed(f"Tuning failed: {self._why_trials_failed(tuned)}")
        best = _trial(tuned["BestTrainingJob"])
        self._say(f"best     {_values(best)}")
        return Best(tuned["BestTrainingJob"]["TunedHyperParameters"], trials)

    def train(self, best: Best, photos: Path, weights: Path | None) -> dict[str, Any]:
        """The description of the finished training job."""
        hyperparameters = {**best.hyperparameters, **_plan(weights).full}
        splits = sorted(folder.name for folder in photos.iterdir() if folder.is_dir())
        channels = [
            requests.channel(split, f"s3://{BUCKET}/photos/{split}/")
            for split in splits
            if split in ("train", "valid", "test")
        ]
        request = requests.training_request(
            f"{NAME}-training", BUCKET, channels + _pretrained(weights), hyperparameters
        )
        self._stack.sagemaker.create_training_job(**request)
        for line in training_lines(self._stack, request["TrainingJobName"]):
            self._say(line)
        trained = training_job(self._stack, request["TrainingJobName"])
        if trained["TrainingJobStatus"] != "Completed":
            why = trained.get("FailureReason", f"it ended as {trained['SecondaryStatus']}.")
            raise JobFailed(f"Training failed: {why}")
        return trained

    def deploy(self, trained: dict[str, Any]) -> None:
        artifact = trained["ModelArtifacts"]["S3ModelArtifacts"]
        sagemaker = self._stack.sagemaker
        sagemaker.create_model(**requests.model_request(NAME, artifact))
        sagemaker.create_endpoint_config(**requests.endpoint_config_request(NAME, NAME))
        sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
        started = time.monotonic()
        while time.monotonic() - started < READY_WITHIN_S:
            endpoint = sagemaker.describe_endpoint(EndpointName=NAME)
            if endpoint["EndpointStatus"] == "InService":
                self._say(f"InService after {time.monotonic() - started:.1f} s")
                return
            if endpoint["EndpointStatus"] == "Failed":
                raise JobFailed(f"The endpoint failed: {endpoint['FailureReason']}")
            time.sleep(0.05)
        raise JobFailed(f"The endpoint was not InService after {READY_WITHIN_S:.0f} s.")

    def ask(self, photo: Path) -> list[dict[str, Any]]:
        """The most probable classes of a photo, best first."""
        try:
            answer = self._stack.runtime.invoke_endpoint(
                EndpointName=NAME, ContentType="application/octet-stream", Body=photo.read_bytes()
            )
        except ClientError as error:
            raise JobFailed(f"The endpoint could not answer to {photo}: {error}") from None
        predictions: list[dict[str, Any]] = json.load(answer["Body"])["predictions"]
        return predictions

    def clean_up(self) -> None:
        sagemaker = self._stack.sagemaker
        sagemaker.delete_endpoint(EndpointName=NAME)
        sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
        sagemaker.delete_model(ModelName=NAME)

    def _sample(self, photos: Path, split: str, most: int) -> requests.Request:
        """A channel of some photos of each class, named by a manifest in S3."""
        names = [
            file.relative_to(photos / split).as_posix()
            for folder in sorted((photos / split).iterdir())
            if folder.is_dir()
            for file in sorted(path for path in folder.rglob("*") if path.is_file())[:most]
        ]
        manifest = [{"prefix": f"s3://{BUCKET}/photos/{split}/"}, *names]
        key = f"samples/{split}.manifest"
        self._stack.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(manifest).encode())
        return requests.channel(split, f"s3://{BUCKET}/{key}", "ManifestFile")

    def _why_trials_failed(self, tuned: dict[str, Any]) -> str:
        summaries = self._stack.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=tuned["HyperParameterTuningJobName"]
        )["TrainingJobSummaries"]
        reasons = {trial["FailureReason"] for trial in summaries if "FailureReason" in trial}
        return "\n".join([tuned.get("FailureReason", ""), *sorted(reasons)]).strip()

    def _say(self, line: str) -> None:
        self._console.print(f"  {escape(line)}", style="dim")


def _plan(weights: Path | None) -> Plan:
    return FROM_SCRATCH if weights is None else PRETRAINED


def _pretrained(weights: Path | None) -> list[requests.Request]:
    if weights is None:
        return []
    return [requests.channel("pretrained", f"s3://{BUCKET}/pretrained/{weights.name}")]


def _trial(summary: dict[str, Any]) -> dict[str, Any]:
    objective = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {})
    return {
        "hyperparameters": summary["TunedHyperParameters"],
        requests.OBJECTIVE: objective.get("Value"),
    }


def _values(trial: dict[str, Any]) -> str:
    hyperparameters = trial["hyperparameters"]
    lr = f"lr={float(hyperparameters['lr']):.5f}"
    rest = "".join(f" {name}={hyperparameters[name]:<3}" for name in ("batch_size", "epochs"))
    value = trial[requests.OBJECTIVE]
    return f"{lr}{rest} {requests.OBJECTIVE}={'failed' if value is None else f'{value:.4f}'}"
