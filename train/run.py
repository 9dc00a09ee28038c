"""The whole job, top to bottom: from a job's photos to the model and a report."""

import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serve.engine_torch import PixelsToProbabilities
from serve.preprocess import Pixels, centre
from train import stop
from train.config import Config, read_config
from train.data import BadData, Photos, Split, load_photos
from train.export import export, versions
from train.finetune import FineTuning, Trained, fine_tune
from train.job import Job
from train.learner import Device
from train.metrics import Evaluation, test_line
from train.network import choose_architecture, download_imagenet, read_weights
from train.progress import track
from train.ranks import Ranks
from train.recipe import Recipe, choose_recipe
from train.report import Run, write_report

log = logging.getLogger("train")

# ImageNet practice: photos are resized to 256 px and cropped to 224.
RESIZE_SHARE = 256 / 224
EXPORT_SAMPLES = 32


def run(job: Job, ranks: Ranks) -> None:
    """Trains, tests, exports and reports; the first process writes, the others help to train."""
    started = time.monotonic()
    torch.use_deterministic_algorithms(True, warn_only=True)
    config = read_config(job.hyperparameters)
    if ranks.rank == 0:
        job.check_writable()
    folders = job.split_folders()
    recipe = choose_recipe(config, has_channel="pretrained" in job.channels)
    for reason in recipe.reasons:
        log.info(reason)
    weights = _weights(job, config, recipe)
    architecture = choose_architecture(config.architecture, weights)
    config = config.model_copy(update={"architecture": architecture})
    photos = load_photos(
        folders,
        size=round(config.image_size * RESIZE_SHARE),
        bad_images=config.bad_images,
        max_bad_share=config.max_bad_share,
    )
    _check_same(photos, ranks)
    log.info(_described(architecture, photos))
    trained = fine_tune(FineTuning(photos, config, recipe, weights, job.checkpoint_dir, ranks))
    if ranks.rank == 0:
        evaluation = _evaluate(trained, photos, config, recipe.device)
        _export(job, config, photos, trained, evaluation)
        if evaluation:
            seconds = time.monotonic() - started
            _write_predictions(evaluation, job.output_data_dir / "predictions.csv")
            write_report(
                _report(job, config, recipe, photos, trained, evaluation, seconds),
                job.output_data_dir / "report.html",
            )
        log.info(_farewell(job, trained, evaluation, time.monotonic() - started))
    ranks.finish()


def _check_same(photos: Photos, ranks: Ranks) -> None:
    ours, firsts = photos.digest(), ranks.share_object(photos.digest())
    if ours != firsts:
        raise BadData(
            "The hosts of this job have different photos. Set S3DataDistributionType to "
            "FullyReplicated for every channel; each process then takes its share of each step."
        )


def _farewell(job: Job, trained: Trained, evaluation: Evaluation | None, seconds: float) -> str:
    if evaluation:
        return (
            f"Done in {seconds:.0f} s: model in {job.model_dir}, report in {job.output_data_dir}."
        )
    best = f"of epoch {trained.best_epoch}" if trained.best_epoch else "as it was, not validated"
    return (
        f"Stopped by SIGTERM after {seconds:.0f} s: the model {best} is in {job.model_dir}, "
        f"without a test or a report. Start the job again with the checkpoints in "
        f"{job.checkpoint_dir} and it goes on from there."
    )


def _weights(job: Job, config: Config, recipe: Recipe) -> Mapping[str, Tensor] | None:
    if recipe.pretrained == "channel":
        return read_weights(job.channels["pretrained"])
    if recipe.pretrained == "imagenet":
        return download_imagenet(choose_architecture(config.architecture, None))
    return None


def _described(architecture: str, photos: Photos) -> str:
    sizes = ", ".join(f"{len(split)} {name}" for name, split in photos.splits.items())
    return (
        f"{architecture}, {len(photos.classes)} classes; photos: {sizes}; "
        f"skipped: {len(photos.skipped)}."
    )


def _evaluate(
    trained: Trained, photos: Photos, config: Config, device: Device
) -> Evaluation | None:
    """The probabilities of the test photos, or of the validation photos if there is no test.

    None if asked to stop: SageMaker grants 120 s, which the export must have.
    """
    if trained.stopped:
        return None
    split = photos.splits.get("test") or photos.splits["valid"]
    if split.name != "test":
        log.warning("There is no test channel: the final figures are of the validation photos.")
    model = PixelsToProbabilities(trained.normalized).eval()
    parts = []
    with torch.inference_mode(), device.autocast():
        starts = range(0, len(split), config.batch_size)
        for start in track(starts, total=len(starts), what=f"Answers for {split.name}"):
            if stop.asked():
                return None
            pixels = _pixels(split, config, slice(start, start + config.batch_size))
            parts.append(model(torch.from_numpy(pixels).to(device.name)).cpu().numpy())
    evaluation = Evaluation(
        split=split.name,
        classes=photos.classes,
        files=split.files,
        labels=split.labels,
        probabilities=np.concatenate(parts),
    )
    log.info(test_line(evaluation))
    return evaluation


def _pixels(split: Split, config: Config, rows: slice) -> Pixels:
    return centre(split.squares[rows], config.image_size)


def _export(
    job: Job, config: Config, photos: Photos, trained: Trained, evaluation: Evaluation | None
) -> None:
    valid = photos.splits["valid"]
    export(
        job.model_dir,
        trained.normalized,
        architecture=config.architecture,
        classes=photos.classes,
        resize=valid.squares.shape[1],
        metrics=_metrics(trained, evaluation),
        samples=_pixels(valid, config, slice(0, EXPORT_SAMPLES)),
    )


def _metrics(trained: Trained, evaluation: Evaluation | None) -> dict[str, float]:
    """What the model's card says of how good it is."""
    if evaluation:
        return {
            f"{evaluation.split}_accuracy": evaluation.accuracy,
            f"{evaluation.split}_top5": evaluation.top_k_accuracy(5),
        }
    if trained.best_epoch:
        return {"valid_accuracy": trained.history[trained.best_epoch - 1].valid_accuracy}
    return {}


def _write_predictions(evaluation: Evaluation, path: Path) -> None:
    """One row a photo: file, its class, the predicted class, every class's probability."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "expected", "predicted", *evaluation.classes])
        for name, label, predicted, probabilities in zip(
            evaluation.files,
            evaluation.labels,
            evaluation.predicted,
            evaluation.probabilities,
            strict=True,
        ):
            rows.writerow(
                [
                    name,
                    evaluation.classes[label],
                    evaluation.classes[predicted],
                    *(f"{p:.6f}" for p in probabilities),
                ]
            )


def _report(
    job: Job,
    config: Config,
    recipe: Recipe,
    photos: Photos,
    trained: Trained,
    evaluation: Evaluation,
    seconds: float,
) -> Run:
    return Run(
        title=job.name,
        summary={
            "Network": config.architecture,
            "Trained": recipe.fine_tune,
            "Pretrained": recipe.pretrained,
            "Device": str(recipe.device),
            "Epochs": f"{len(trained.history)} of {recipe.epochs}",
            "Seconds": f"{seconds:.0f}",
        },
        decisions=recipe.reasons,
        hyperparameters=config.model_dump() | {"epochs": recipe.epochs, "lr": recipe.lr},
        history=trained.history,
        best_epoch=trained.best_epoch,
        counts=photos.counts(),
        evaluation=evaluation,
        photo_folder=photos.splits[evaluation.split].folder,
        skipped=photos.skipped,
        versions=versions(),
    )
