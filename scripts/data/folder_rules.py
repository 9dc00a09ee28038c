"""Findings about the folders: splits, classes, their names, what lies beside them."""

from collections.abc import Iterator

from scripts.data.findings import Finding, Item, Limits, Rule, many
from scripts.data.folders import REQUIRED, as_text, for_shell, is_text
from scripts.data.survey import Survey


def _splits(survey: Survey, limits: Limits) -> Iterator[Finding]:
    for split in REQUIRED:
        if split not in survey.classes:
            yield Finding(
                "error",
                "missing-split",
                f"There is no folder {split}/.",
                "Training needs train/ and valid/, each with one folder per class: "
                f"kennel data prepare {for_shell(survey.folder)} PREPARED makes them from one per "
                "class.",
            )
    if "test" not in survey.classes:
        yield Finding(
            "warning",
            "missing-split",
            "There is no folder test/.",
            "The report would show the photos of valid/, by which the best epoch is chosen, and "
            "flatter. Keep some photos apart.",
        )


def _classes(survey: Survey, limits: Limits) -> Iterator[Finding]:
    train = survey.classes.get("train")
    if train is not None and len(train) < 2:
        yield Finding(
            "error",
            "too-few-classes",
            f"train/ has one class, '{as_text(train[0])}'." if train else "train/ has no classes.",
            "A classifier needs at least two: one folder for each.",
        )
    yield from _names(survey)
    for split, labels in survey.classes.items():
        unknown = [label for label in labels if label not in (train or labels)]
        if unknown:
            yield Finding(
                "error",
                "unknown-class",
                f"{split}/ has {many(len(unknown), 'class', 'classes')} that train/ lacks.",
                "Add their photos to train/, or remove or rename the folders.",
                tuple(Item((as_text(f"{split}/{label}"),)) for label in unknown),
            )


def _names(survey: Survey) -> Iterator[Finding]:
    folders = {f"{split}/{label}" for split, labels in survey.classes.items() for label in labels}
    files = {f"{photo.split}/{photo.name}" for photo in survey.photos if is_text(photo.label)}
    for names, what, who in (
        (folders, "class folder", "training refuses"),
        (files, "file", "S3 can't hold"),
    ):
        wrong = sorted(name for name in names if not is_text(name))
        if wrong:
            yield Finding(
                "error",
                "not-utf8",
                f"{many(len(wrong), what)} with a name that is not UTF-8, which {who}.",
                "Rename them, with `convmv` for example.",
                tuple(Item((as_text(name),)) for name in wrong),
            )


def _empty(survey: Survey, limits: Limits) -> Iterator[Finding]:
    counts = survey.counts
    known = survey.classes.get("train", ())
    for split, by_class in counts.items():
        if not any(by_class.values()):
            yield Finding(
                "error",
                "no-photos",
                f"{split}/ has no photos that can be read.",
                "Add some, or remove the folder." if split == "test" else "Add some.",
            )
            continue
        empty = [label for label in known if not by_class.get(label)]
        if empty and split == "train":
            yield Finding(
                "error",
                "no-photos",
                f"{many(len(empty), 'class', 'classes')} without a readable photo in train/.",
                "Add some, or remove the folders.",
                tuple(Item((as_text(f"train/{label}"),)) for label in empty),
            )
        elif empty:
            yield Finding(
                "warning",
                "missing-class",
                f"{many(len(empty), 'class', 'classes')} without photos in {split}/.",
                "Nothing is measured for them there. Move some photos of each.",
                tuple(Item((as_text(f"{split}/{label}"),)) for label in empty),
            )


def _unused(survey: Survey, limits: Limits) -> Iterator[Finding]:
    if survey.unused:
        yield Finding(
            "warning",
            "unused",
            f"{many(len(survey.unused), 'file or folder', 'files or folders')} outside of any "
            "class folder, which training does not use.",
            "Move them into class folders, or remove them.",
            tuple(Item((name,)) for name in survey.unused),
        )


FOLDER_RULES: tuple[Rule, ...] = (_splits, _classes, _empty, _unused)
