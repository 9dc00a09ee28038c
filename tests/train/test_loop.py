import copy
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from train.checkpoint import Checkpoints
from train.learner import Batch, Device, Learner
from train.loop import (
    FINAL_LR_SHARE,
    WARM_UP_SHARE,
    Diverged,
    Schedule,
    TrainBatches,
    Training,
    ValidBatches,
    evaluate,
)
from train.metrics import EpochMetrics
from train.ranks import Alone

CPU = Device("cpu", "fp32")


def points(count: int = 8) -> Batch:
    """Points in the plane that a line through the origin separates."""
    torch.manual_seed(1)
    inputs = torch.randn(count, 2)
    return Batch(inputs, (inputs[:, 0] > 0).long())


def repeated(batch: Batch, times: int = 1) -> TrainBatches:
    return lambda epoch, first_step: iter([batch] * (times - first_step))


def once(batch: Batch) -> ValidBatches:
    return lambda: iter([batch])


def fit(
    learner: Learner, schedule: Schedule, train: TrainBatches, valid: ValidBatches
) -> tuple[list[EpochMetrics], int]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), {}, every_s=60)
        progress = Training(learner, schedule, checkpoints, Alone()).fit(train, valid)
    return progress.history, progress.best_epoch


def make_learner(
    *,
    lr: float = 0.1,
    ema_decay: float = 0.0,
    module: nn.Module | None = None,
) -> Learner:
    torch.manual_seed(0)
    module = module or nn.Linear(2, 2)
    return Learner(
        module=module,
        forward=module,
        trained=[module],
        optimizer=torch.optim.SGD(module.parameters(), lr=lr),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        ema_decay=ema_decay,
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


def test_training_finds_the_line_between_two_classes() -> None:
    learner = make_learner(lr=1.0)
    history, best = fit(learner, Schedule(20, 4, patience=0), repeated(points(), 4), once(points()))
    assert [metrics.epoch for metrics in history] == list(range(1, 21))
    assert history[best - 1].valid_accuracy == 1.0
    assert history[-1].train_loss < history[0].train_loss / 2


def test_the_rate_warms_up_and_then_falls_along_a_cosine() -> None:
    learner, rates = make_learner(lr=2.0), []

    def train(epoch: int, first_step: int) -> Iterator[Batch]:
        for _ in range(20):
            rates.append(learner.optimizer.param_groups[0]["lr"] / 2.0)
            yield points()

    fit(learner, Schedule(5, 20, patience=0), train, once(points()))
    warm_up = round(100 * WARM_UP_SHARE)
    assert len(rates) == 100
    assert rates[:warm_up] == pytest.approx([(step + 1) / warm_up for step in range(warm_up)])
    assert rates[warm_up:] == sorted(rates[warm_up:], reverse=True)
    middle = warm_up + (100 - warm_up) // 2
    assert rates[middle] == pytest.approx((1 + FINAL_LR_SHARE) / 2)
    assert rates[-1] == pytest.approx(FINAL_LR_SHARE, rel=0.2)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_even_the_shortest_training_has_a_rate(epochs: int, steps: int) -> None:
    learner, before = make_learner(), weights(make_learner().module)
    batches = repeated(points(), steps)
    history, _ = fit(learner, Schedule(epochs, steps, patience=0), batches, once(points()))
    assert len(history) == epochs
    assert not same(before, learner.module.state_dict())


def test_each_group_keeps_its_share_of_the_rate() -> None:
    learner = make_learner()
    linear = learner.module
    assert isinstance(linear, nn.Linear)
    learner.optimizer = torch.optim.SGD(
        [{"params": [linear.weight], "lr": 1.0}, {"params": [linear.bias], "lr": 0.25}]
    )
    shares = []

    def train(epoch: int, first_step: int) -> Iterator[Batch]:
        for _ in range(10):
            shares.append([group["lr"] for group in learner.optimizer.param_groups])
            yield points()

    fit(learner, Schedule(1, 10, patience=0), train, once(points()))
    assert all(bias == pytest.approx(weight / 4) for weight, bias in shares)


def test_the_average_forgets_at_the_stated_rate_and_faster_while_young() -> None:
    learner = make_learner(ema_decay=0.3)
    expected = learner.module.state_dict()["weight"].clone()
    for step in range(1, 8):
        learner.step(points())
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * learner.module.state_dict()["weight"]
        assert torch.allclose(learner.average.state_dict()["weight"], expected)
    assert not torch.allclose(expected, learner.module.state_dict()["weight"], atol=1e-4)


def test_without_averaging_the_average_is_the_network() -> None:
    learner = make_learner(ema_decay=0.0)
    learner.step(points())
    assert same(learner.average.state_dict(), learner.module.state_dict())


def test_norm_statistics_are_averaged_too() -> None:
    learner = make_learner(module=nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), ema_decay=0.9)
    learner.train_mode()
    learner.step(points())
    ours, theirs = learner.average.state_dict(), learner.module.state_dict()
    decay = 2 / 11
    assert torch.allclose(ours["0.running_mean"], (1 - decay) * theirs["0.running_mean"])
    assert torch.allclose(ours["0.running_var"], decay + (1 - decay) * theirs["0.running_var"])


def test_the_average_is_never_in_training_mode() -> None:
    learner = make_learner(module=nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)))
    fit(learner, Schedule(2, 1, patience=0), repeated(points()), once(points()))
    assert not any(module.training for module in learner.average.modules())


def test_only_the_trained_parts_are_in_training_mode() -> None:
    frozen, trained = nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    learner = make_learner(module=nn.Sequential(frozen, trained))
    learner.trained = [trained]
    before = weights(frozen)
    fit(learner, Schedule(2, 2, patience=0), repeated(points(), 2), once(points()))
    assert not frozen.training
    assert trained[0].training
    assert torch.equal(before["running_mean"], frozen.state_dict()["running_mean"])


def scripted(
    learner: Learner, shares_right: list[float]
) -> tuple[ValidBatches, list[dict[str, Tensor]]]:
    """Validation with these accuracies, an epoch each, and the averages that were validated."""
    seen: list[dict[str, Tensor]] = []

    def valid() -> Iterator[Batch]:
        inputs = points(100).inputs
        with torch.no_grad():
            answers = learner.average(inputs).argmax(dim=1)
        right = round(100 * shares_right[len(seen)])
        answers[right:] = 1 - answers[right:]
        seen.append(weights(learner.average))
        yield Batch(inputs, answers)

    return valid, seen


def test_training_stops_early_and_keeps_the_best_epochs_weights(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    learner = make_learner()
    valid, seen = scripted(learner, [0.5, 0.9, 0.8, 0.7, 0.6, 1.0])
    history, best = fit(learner, Schedule(6, 2, patience=3), repeated(points(), 2), valid)
    assert [round(metrics.valid_accuracy, 2) for metrics in history] == [0.5, 0.9, 0.8, 0.7, 0.6]
    assert best == 2
    assert same(learner.average.state_dict(), seen[1])
    assert not same(seen[1], seen[4])
    assert caplog.messages[-1] == "Stopped after epoch 5: no better validation for 3 epochs."


def test_without_patience_training_goes_on_to_its_end() -> None:
    learner = make_learner()
    valid, seen = scripted(learner, [1.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    history, best = fit(learner, Schedule(6, 1, patience=0), repeated(points()), valid)
    assert (len(history), best) == (6, 1)
    assert same(learner.average.state_dict(), seen[0])


def test_of_equally_accurate_epochs_the_one_with_the_lowest_loss_is_kept() -> None:
    learner = make_learner(lr=0.5)
    history, best = fit(learner, Schedule(8, 4, patience=0), repeated(points(), 4), once(points()))
    accurate = [m for m in history if m.valid_accuracy == max(h.valid_accuracy for h in history)]
    assert best == min(accurate, key=lambda metrics: metrics.valid_loss).epoch


def test_a_rate_too_large_is_said_to_be_so() -> None:
    learner = make_learner(lr=float("inf"))
    with pytest.raises(Diverged) as caught:
        fit(learner, Schedule(3, 4, patience=0), repeated(points(), 4), once(points()))
    assert str(caught.value) == (
        "The training loss became nan in epoch 1: the steps are too large. "
        "Lower lr (its peak: inf)."
    )


def test_weights_lost_in_the_very_last_step_are_noticed() -> None:
    learner = make_learner(lr=float("inf"))
    with pytest.raises(Diverged, match="The validation loss became nan in epoch 1"):
        fit(learner, Schedule(1, 1, patience=0), repeated(points()), once(points()))


def test_every_epoch_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    history, _ = fit(make_learner(), Schedule(3, 1, patience=0), repeated(points()), once(points()))
    assert caplog.messages == [metrics.line() for metrics in history]
    assert all(metrics.images_per_s > 0 for metrics in history)
    assert all(0 <= metrics.step_share <= 1 for metrics in history)


def test_the_mean_loss_counts_photos_not_batches() -> None:
    learner = make_learner(lr=0.0)
    inputs, targets, _ = points(9)
    parts = [Batch(inputs[:8], targets[:8]), Batch(inputs[8:], targets[8:])]
    schedule = Schedule(1, 2, patience=0)
    history, _ = fit(learner, schedule, lambda epoch, first: iter(parts), lambda: iter(parts))
    whole = evaluate(learner.module, CPU, iter([points(9)]), Alone())
    assert whole
    assert history[0].train_loss == pytest.approx(whole[0])
    assert (history[0].valid_loss, history[0].valid_accuracy) == pytest.approx(whole)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.AdamW(parameters, 0.1),
    ],
    ids=["sgd", "adamw"],
)
def test_a_step_lowers_the_loss(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    learner = make_learner()
    learner.optimizer = optimizer(learner.module.parameters())
    losses = [learner.step(points()) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert not losses[0].requires_grad


class Second(Alone):
    """Another process than the first, as far as the loop can tell."""

    rank = 1

    def __init__(self) -> None:
        self.flags: list[tuple[bool, ...]] = []

    def any(self, *flags: bool) -> list[bool]:
        self.flags.append(flags)
        return list(flags)


def test_the_first_process_alone_says_when_a_checkpoint_is_due(tmp_path: Path) -> None:
    ranks = Second()
    checkpoints = Checkpoints(tmp_path, {}, every_s=0)
    training = Training(make_learner(), Schedule(2, 3, patience=0), checkpoints, ranks)
    training.fit(repeated(points(), 3), once(points()))
    assert checkpoints.due()
    assert len(ranks.flags) == 8
    assert not any(any(flags) for flags in ranks.flags)
    assert not any(tmp_path.iterdir())
