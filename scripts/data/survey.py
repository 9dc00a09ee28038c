"""Everything a folder of photos holds, looked at once: what findings are drawn from."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.data.folders import (
    Photo,
    as_text,
    check_folder_exists,
    class_folders,
    is_meant,
    loose_files,
    photos_in,
    split_folders,
    unreadable_refused,
)
from scripts.data.look import Look, look_at, whole_digest
from scripts.data.parallel import Tell, cores, in_parallel, untold
from scripts.data.sameness import Group, look_alikes, same_pictures


@dataclass(frozen=True)
class Survey:
    """`looks` has one for each of `photos`; groups hold their indices."""

    folder: Path
    classes: Mapping[str, tuple[str, ...]]
    """Split → the names of its class folders; only splits that are there."""
    unused: tuple[str, ...]
    """Files and folders that training does not use."""
    photos: tuple[Photo, ...]
    looks: tuple[Look, ...]
    same: tuple[Group, ...]
    alike: tuple[Group, ...]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Split → class → photos that can be read."""
        readable = Counter(
            (photo.split, photo.label)
            for photo, look in zip(self.photos, self.looks, strict=True)
            if not look.reason
        )
        return {
            split: {label: readable[split, label] for label in labels}
            for split, labels in self.classes.items()
        }

    @property
    def size_bytes(self) -> int:
        return sum(look.size_bytes for look in self.looks)


def survey(folder: Path, tell: Tell = untold) -> Survey:
    """Decodes every photo once, and a second time whole those that look alike. Raises Refusal."""
    check_folder_exists(folder)
    splits = split_folders(folder)
    photos = [photo for split, place in splits.items() for photo in photos_in(split, place)]
    looks = _followed(lambda photo: look_at(photo.path), photos, tell)

    def whole(indices: Sequence[int]) -> Iterable[bytes | None]:
        return in_parallel(lambda index: whole_digest(photos[index].path), indices, cores())

    same = same_pictures(looks, whole)
    return Survey(
        folder=folder,
        classes={
            split: tuple(entry.name for entry in class_folders(place))
            for split, place in splits.items()
        },
        unused=_unused(folder, splits),
        photos=tuple(photos),
        looks=tuple(looks),
        same=tuple(same.of_several()),
        alike=tuple(look_alikes(looks, same)),
    )


def _followed(work: Callable[[Photo], Look], photos: Sequence[Photo], tell: Tell) -> list[Look]:
    done = []
    for look in in_parallel(work, photos, cores()):
        done.append(look)
        tell(len(done), len(photos))
    return done


def _unused(folder: Path, splits: Mapping[str, Path]) -> tuple[str, ...]:
    used = set(splits.values())
    with unreadable_refused():
        beside = [path for path in sorted(folder.iterdir()) if path not in used]
        loose = [path for place in splits.values() for path in loose_files(place)]
        return tuple(
            as_text(path.relative_to(folder).as_posix()) + ("/" if path.is_dir() else "")
            for path in [*beside, *loose]
            if is_meant(path.name)
        )
