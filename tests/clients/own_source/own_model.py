"""Beside the script, to show that the whole folder came along."""

from pathlib import Path


def count(folder: Path, limit: int) -> int:
    return min(limit, sum(1 for _ in folder.rglob("*.jpg")))
