import math
from collections.abc import Sequence

import numpy as np
import pytest

from train.metrics import ClassScore, EpochMetrics, Evaluation, Mistake, read_metrics
from train.metrics import test_line as split_line


def evaluation(
    labels: Sequence[int], probabilities: Sequence[Sequence[float]], *, split: str = "test"
) -> Evaluation:
    classes = tuple("abcdefgh"[: len(probabilities[0])])
    files = tuple(f"{classes[label]}/{n}.jpg" for n, label in enumerate(labels))
    return Evaluation(
        split, classes, files, np.array(labels), np.array(probabilities, dtype=np.float32)
    )


THREE = evaluation(
    [0, 0, 1, 1, 2],
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.9, 0.06, 0.04], [0.4, 0.35, 0.25]],
)


def test_an_epochs_line_reads_as_documented() -> None:
    line = EpochMetrics(3, 0.45123, 0.61231, 0.9312, 812.44, 0.968).line()
    assert line == (
        "epoch=3 train_loss=0.4512 valid_loss=0.6123 valid_accuracy=0.9312 "
        "images_per_s=812.4 step_share=0.97"
    )


@pytest.mark.parametrize("loss", [0.5, 12345.678, 0.0, math.inf])
def test_an_epochs_line_is_read_back_by_the_regexes(loss: float) -> None:
    read = read_metrics(EpochMetrics(12, loss, 0.25, 0.5, 100.0, 0.75).line())
    assert read == {
        "train_loss": pytest.approx(loss, abs=1e-3),
        "valid_loss": 0.25,
        "valid_accuracy": 0.5,
        "images_per_s": 100.0,
        "step_share": 0.75,
    }


def test_a_loss_that_is_no_number_is_read_back_too() -> None:
    assert math.isnan(read_metrics("epoch=1 train_loss=nan valid_loss=0.1")["train_loss"])


def test_the_test_line_is_read_back() -> None:
    line = split_line(THREE)
    assert line == "test_accuracy=0.4000 test_top5=1.0000"
    assert read_metrics(line) == {"test_accuracy": 0.4}


def test_other_lines_carry_no_metrics() -> None:
    assert read_metrics("Decoding train: 10 of 20; my_train_loss=3") == {}


def test_top_k_counts_the_k_most_probable() -> None:
    assert [THREE.top_k_accuracy(k) for k in (1, 2, 3)] == [0.4, 0.8, 1.0]


def test_top_k_is_certain_when_there_are_fewer_classes() -> None:
    assert THREE.top_k_accuracy(5) == 1.0


def test_of_equals_the_first_counts_so_that_top_1_is_the_accuracy() -> None:
    undecided = evaluation([0, 1, 2], [[1 / 3] * 3] * 3)
    assert undecided.top_k_accuracy(1) == undecided.accuracy == pytest.approx(1 / 3)
    assert undecided.top_k_accuracy(2) == pytest.approx(2 / 3)


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    assert THREE.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_class_scores_know_classes_without_photos_and_without_answers() -> None:
    scores = list(
        evaluation([0, 0, 2], [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.9, 0.1, 0]]).class_scores()
    )
    assert scores[0] == ClassScore("a", precision=0.5, recall=0.5, support=2)
    assert (scores[1].precision, scores[1].support) == (0.0, 0)
    assert math.isnan(scores[1].recall)
    assert math.isnan(scores[2].precision)
    assert scores[2].recall == 0.0


def test_the_worst_mistakes_are_the_most_confident_ones() -> None:
    worst = THREE.worst_mistakes(2)
    assert worst == [
        Mistake("b/3.jpg", "b", "a", pytest.approx(0.9)),
        Mistake("a/1.jpg", "a", "b", pytest.approx(0.8)),
    ]
    assert [mistake.file for mistake in THREE.worst_mistakes(99)][2:] == ["c/4.jpg"]


def test_without_mistakes_there_are_no_worst_ones() -> None:
    assert evaluation([1], [[0.1, 0.9]]).worst_mistakes(3) == []
