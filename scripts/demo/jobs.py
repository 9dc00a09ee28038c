"""The demo's jobs and its endpoint: kennel's own verbs, on settings that suit a demo."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.account.down import down, find_plan
from scripts.call import Request
from scripts.data.folders import is_meant
from scripts.data.upload import upload_photos, upload_weights
from scripts.hosting.deploy import deploy
from scripts.hosting.invoke import invoke
from scripts.jobs.channels import channel, weights_channels
from scripts.jobs.find import Description
from scripts.jobs.hyperparameters import texts
from scripts.jobs.report import fetch_report
from scripts.jobs.train import train
from scripts.jobs.training_plan import Plan
from scripts.jobs.trials import Tuned
from scripts.jobs.tune import follow_tuning, start_tuning
from scripts.jobs.tuning_request import tuning_request
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.session import Session
from scripts.settings import Settings

NAME = "kennel-demo"
INSTANCE = "ml.m5.xlarge"


@dataclass(frozen=True)
class Kind:
    """What is trained, and how the trials of its tuning are cheaper than that.

    `photos` is how many of each class a trial sees, by split. `full` and `trial` are
    hyperparameters; those of `full` win over what was tuned.
    """

    photos: Mapping[str, int]
    trial: Mapping[str, Any]
    trial_epochs: tuple[int, int]
    full: Mapping[str, Any]


# A small network on small photos learns the painted sample in about a minute; its trials see
# the photos smaller still, and less often.
SMALL = {"architecture": "resnet18", "pretrained": "none"}
FROM_SCRATCH = Kind(
    photos={"train": 60, "valid": 20},
    trial={**SMALL, "image_size": 32},
    trial_epochs=(2, 4),
    full={"image_size": 64, "epochs": 12},
)
# Nearly all time goes into the features of the photos, which each trial computes anew.
PRETRAINED = Kind(photos={"train": 12, "valid": 6}, trial={}, trial_epochs=(10, 40), full={})


def demo_settings(weights: Path | None) -> Settings:
    """What kennel.toml would say for the demo."""
    kind = _kind(weights)
    least, most = kind.trial_epochs
    job = {"instance": INSTANCE, "max_hours": 1}
    return Settings.model_validate(
        {
            "name": NAME,
            "train": {**job, "rules": [], "weights": weights.name if weights else ""},
            "tune": {
                **job,
                "trials": 3,
                "early_stopping": "Off",
                "seed": 1,
                "hyperparameters": dict(kind.trial),
                "ranges": {
                    "lr": {"min": 0.0005, "max": 0.008, "scaling": "Logarithmic"},
                    "batch_size": {"values": [16, 32]},
                    "epochs": {"min": least, "max": most},
                },
            },
            "deploy": {"instance": INSTANCE},
        }
    )


def upload(session: Session, photos: Path, weights: Path | None) -> None:
    upload_photos(session, photos)
    if weights is not None:
        upload_weights(session, weights)


def tune_on_some(session: Session, photos: Path, weights: Path | None) -> Tuned:
    """A tuning job whose trials see some photos of each class."""
    kind, project = _kind(weights), session.project
    if weights is None:
        session.console.print(
            "No pretrained weights (WEIGHTS=file), so a small network learns from nothing."
        )
    channels = [_some(session, photos, split, most) for split, most in kind.photos.items()]
    call = tuning_request(
        project,
        project.new_name("tune"),
        texts(kind.trial),
        session.settings.tune.ranges,
        channels + weights_channels(project),
    )
    return follow_tuning(session, start_tuning(session, Plan(call)))


def train_best(session: Session, tuned: Tuned, weights: Path | None) -> Description:
    values = [f"{name}={value}" for name, value in _kind(weights).full.items()]
    return train(session, best_of=tuned.name, hp=values)


def fetch(session: Session, trained: Description, out: Path) -> None:
    """Brings report.html, predictions.csv and model.tar.gz to `out`."""
    fetch_report(session, trained, out)
    bucket, key = split_uri(trained["ModelArtifacts"]["S3ModelArtifacts"])
    session.stack.s3.download_file(bucket, key, str(out / "model.tar.gz"))


def host(session: Session, trained: Description) -> None:
    deploy(session, trained["TrainingJobName"])


def ask(session: Session, photo: Path) -> list[dict[str, Any]]:
    """The most probable classes of a photo, best first. Raises Refusal."""
    row = invoke(session, [photo]).rows[0]
    if row.error:
        raise Refusal(f"The endpoint could not answer to {photo}: {row.error}")
    return [vars(prediction) for prediction in row.predictions]


def clean_up(session: Session) -> None:
    """Everything that costs by the hour."""
    left = down(session, find_plan(session)).left
    if left:
        raise Refusal("\n".join(left))


def _some(session: Session, photos: Path, split: str, most: int) -> Request:
    """A channel of some photos of each class, named by a manifest in S3."""
    names = [
        file.relative_to(photos / split).as_posix()
        for folder in sorted((photos / split).iterdir())
        if folder.is_dir()
        # A manifest may only name what upload brings: no .DS_Store.
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and is_meant(p.name))[:most]
    ]
    manifest = [{"prefix": f"{session.project.photos}/{split}/"}, *names]
    uri = session.project.uri("manifests", f"{split}.manifest")
    bucket, key = split_uri(uri)
    session.stack.s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(manifest).encode())
    return channel(split, uri, "ManifestFile")


def _kind(weights: Path | None) -> Kind:
    return FROM_SCRATCH if weights is None else PRETRAINED
