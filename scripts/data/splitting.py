"""Photos of one folder per class, given to train, valid and test."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scripts.refusal import Refusal

Digest = str
"""Of a photo's content: the same photo under another name has the same one."""


@dataclass(frozen=True)
class Shares:
    """Of each class's photos; what is left is for training."""

    valid: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.valid + self.test >= 1:
            raise Refusal(
                f"valid_share={self.valid:g} and test_share={self.test:g} leave nothing to train "
                "on. Together they must be below 1."
            )


def split_photos(
    photos: Iterable[tuple[str, Digest]], shares: Shares, earlier: Mapping[Digest, str]
) -> dict[Digest, str]:
    """Content → split, for photos given as (class, content).

    Each class has its shares of all of it, and of three photos or more at least one in each split.
    A photo keeps the split it had `earlier`, so only new ones are dealt; which goes where depends
    on contents and seed, not on names or order.
    """
    by_class: dict[str, set[Digest]] = defaultdict(set)
    for label, digest in photos:
        by_class[label].add(digest)
    dealt: dict[Digest, str] = {}
    for label in sorted(by_class):
        members = by_class[label]
        # A picture in two classes has been dealt with the first of them.
        dealt |= {digest: earlier[digest] for digest in members - dealt.keys() if digest in earlier}
        wanted = _wanted(len(members), shares)
        have = Counter(dealt[digest] for digest in members & dealt.keys())
        for digest in sorted(members - dealt.keys(), key=lambda digest: _lot(digest, shares.seed)):
            split = next((name for name in ("test", "valid") if have[name] < wanted[name]), "train")
            dealt[digest] = split
            have[split] += 1
    return dealt


def _wanted(count: int, shares: Shares) -> dict[str, int]:
    least = 1 if count >= 3 else 0
    return {
        "valid": max(least, round(count * shares.valid)),
        "test": max(least, round(count * shares.test)),
    }


def _lot(digest: Digest, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {digest}".encode()).digest()
