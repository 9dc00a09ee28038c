"""What the server answered for a photo: its most probable classes, or why there are none."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    label: str
    probability: float


class NoPrediction(Exception):
    """The answer holds no classes; the sentence says why."""


def read_answer(body: bytes) -> tuple[Prediction, ...]:
    """Most probable first, of an answer in any form of serve/answer.py for one photo. Raises
    NoPrediction."""
    try:
        fields = json.loads(body)
        entry = _the_entry(fields)
        if "error" in entry:
            raise NoPrediction(str(entry["error"]))
        predictions = tuple(
            Prediction(str(each["label"]), float(each["probability"]))
            for each in entry["predictions"]
        )
        if not predictions:
            raise ValueError
        return predictions
    except (ValueError, TypeError, KeyError, IndexError):
        shown = body[:80].decode("utf-8", "replace")
        raise NoPrediction(
            f"The answer is not one of Kennel's server: it begins with {shown!r}."
        ) from None


def error_told(text: str) -> str:
    """The sentence in the server's JSON about an error, else the text."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, TypeError, KeyError):
        return " ".join(text.split())


def _the_entry(fields: dict[str, Any]) -> dict[str, Any]:
    """Of {"predictions": […classes…]}, or of {"predictions": [{"predictions": […classes…]}]}."""
    if "error" in fields:
        return fields
    predictions = fields["predictions"]
    if predictions and ("predictions" in predictions[0] or "error" in predictions[0]):
        return dict(predictions[0])
    return fields
