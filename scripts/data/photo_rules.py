"""Findings about the photos: unreadable, the same, alike, unbalanced, tiny, huge."""

from collections.abc import Callable, Iterator

from scripts.data.findings import Finding, Item, Limits, Rule, Severity, many
from scripts.data.folders import Photo, as_text, for_shell
from scripts.data.look import Look
from scripts.data.sameness import Group
from scripts.data.survey import Survey

# Photos of the largest class for one of the smallest, above which training favours the large.
IMBALANCE = 5
# Pixels of the longer side above which photos mostly cost time and space.
HUGE_PX = 2048


def _unreadable(survey: Survey, limits: Limits) -> Iterator[Finding]:
    items = tuple(
        Item((photo.place,), look.reason)
        for photo, look in zip(survey.photos, survey.looks, strict=True)
        if look.reason
    )
    if not items:
        return
    config, total = limits.config, len(survey.photos)
    of_all = f"{len(items)} of {many(total, 'file')} can't be read"
    if config.bad_images == "fail":
        yield Finding(
            "error", "unreadable", f"{of_all} (bad_images=fail).", "Mend or remove them.", items
        )
    elif len(items) > config.max_bad_share * total:
        share = f"more than max_bad_share={config.max_bad_share:g}"
        yield Finding("error", "unreadable", f"{of_all}, {share}.", "Mend or remove them.", items)
    else:
        yield Finding(
            "warning",
            "unreadable",
            f"{of_all}; training lists and skips them (bad_images=skip).",
            "Mend or remove them; kennel data prepare leaves them out.",
            items,
        )


def _same(survey: Survey, limits: Limits) -> Iterator[Finding]:
    for severity, kind, applies, sentence, way_out in SAMENESS:
        items = tuple(_item(survey, group) for group in survey.same if applies(survey, group))
        if items:
            yield Finding(
                severity, kind, sentence.format(many(len(items), "picture")), way_out, items
            )


def _alike(survey: Survey, limits: Limits) -> Iterator[Finding]:
    items = tuple(
        _item(survey, group)
        for group in survey.alike
        if _several_splits(survey, group) or _several_classes(survey, group)
    )
    if items:
        yield Finding(
            "warning",
            "look-alikes",
            f"{many(len(items), 'group')} of photos in several splits or classes look alike.",
            "If they are one photo, saved again, keep one of them.",
            items,
        )


def _balance(survey: Survey, limits: Limits) -> Iterator[Finding]:
    counts = {label: count for label, count in survey.counts.get("train", {}).items() if count}
    if len(counts) < 2 or limits.config.class_weights == "balanced":
        return
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[largest] / counts[smallest]
    if ratio > IMBALANCE:
        yield Finding(
            "warning",
            "imbalance",
            f"In train/, '{as_text(largest)}' has {counts[largest]} photos and "
            f"'{as_text(smallest)}' {counts[smallest]}: {ratio:.0f} times as many.",
            "Train with --hp class_weights=balanced, or add photos to the small classes.",
        )


def _sizes(survey: Survey, limits: Limits) -> Iterator[Finding]:
    sized = [
        (photo, look)
        for photo, look in zip(survey.photos, survey.looks, strict=True)
        if not look.reason
    ]
    size = limits.config.image_size
    tiny = tuple(_sized(*each) for each in sized if min(each[1].shape) < size)
    if tiny:
        yield Finding(
            "warning",
            "tiny",
            f"{len(tiny)} of {many(len(sized), 'photo')} have a side below the {size} px that the "
            "network sees.",
            "They are enlarged and stay blurred. Use larger ones, or --hp image_size=N.",
            tiny,
        )
    huge = [each for each in sized if max(each[1].shape) > HUGE_PX]
    if huge:
        weight = sum(look.size_bytes for _, look in huge)
        yield Finding(
            "warning",
            "huge",
            f"{many(len(huge), 'photo')} with a side above {HUGE_PX} px: "
            f"{weight / 1e6:.0f} of {survey.size_bytes / 1e6:.0f} MB.",
            f"kennel data prepare {for_shell(survey.folder)} PREPARED makes them "
            f"{limits.max_side} px; upload and training are faster then.",
            tuple(_sized(*each) for each in huge),
        )


def _several_splits(survey: Survey, group: Group) -> bool:
    return len({survey.photos[index].split for index in group}) > 1


def _several_classes(survey: Survey, group: Group) -> bool:
    return len({survey.photos[index].label for index in group}) > 1


def _within_one(survey: Survey, group: Group) -> bool:
    return not _several_splits(survey, group) and not _several_classes(survey, group)


SAMENESS: tuple[tuple[Severity, str, Callable[[Survey, Group], bool], str, str], ...] = (
    (
        "error",
        "leak",
        _several_splits,
        "{} in two splits: what is measured on them was learnt by heart.",
        "Keep each in one split.",
    ),
    (
        "error",
        "label-conflict",
        _several_classes,
        "{} in two classes: one of them is wrong.",
        "Keep each in its own class.",
    ),
    (
        "warning",
        "duplicates",
        _within_one,
        "{} more than once in its class: it weighs more than others.",
        "Keep one of each.",
    ),
)


def _item(survey: Survey, group: Group) -> Item:
    return Item(tuple(survey.photos[index].place for index in group))


def _sized(photo: Photo, look: Look) -> Item:
    return Item((photo.place,), f"{look.shape[0]} × {look.shape[1]} px")


PHOTO_RULES: tuple[Rule, ...] = (_unreadable, _same, _balance, _alike, _sizes)
