"""What the searches propose, without any training: distributions, seeds, and what they learn."""

import itertools
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from local.training.metrics import Metrics
from local.tuning import completion, ranges, search
from local.tuning.ranges import Range
from local.tuning.search import Resources, Search


def continuous(least: str, most: str, scale: str = "Auto", name: str = "x") -> tuple[Range, ...]:
    entry = {"Name": name, "MinValue": least, "MaxValue": most, "ScalingType": scale}
    return ranges.read({"ContinuousParameterRanges": [entry]})


def integer(least: str, most: str, scale: str = "Auto") -> tuple[Range, ...]:
    entry = {"Name": "x", "MinValue": least, "MaxValue": most, "ScalingType": scale}
    return ranges.read({"IntegerParameterRanges": [entry]})


def categorical(**values: list[str]) -> tuple[Range, ...]:
    entries = [{"Name": name, "Values": choices} for name, choices in values.items()]
    return ranges.read({"CategoricalParameterRanges": entries})


def create(known: tuple[Range, ...], strategy: str = "Random", **members: Any) -> Search:
    return search.create(known, strategy, **({"maximize": False, "seed": 1} | members))


def proposed(known: tuple[Range, ...], count: int, **members: Any) -> list[Mapping[str, str]]:
    own = create(known, **members)
    found = [own.propose() for _ in range(count)]
    return [proposal.hyperparameters for proposal in found if proposal]


def drawn(known: tuple[Range, ...], count: int = 600) -> list[str]:
    return [values["x"] for values in proposed(known, count)]


def first_of_many_seeds(known: tuple[Range, ...]) -> list[int]:
    """Of 300. One search would not propose a number twice."""
    return [int(proposed(known, 1, seed=seed)[0]["x"]) for seed in range(300)]


def minimized(own: Search, loss: Callable[[float], float], count: int) -> list[float]:
    losses = []
    for _ in range(count):
        proposal = own.propose()
        assert proposal is not None
        losses.append(loss(float(proposal.hyperparameters["x"])))
        own.conclude(proposal, losses[-1])
    return losses


# A draw of 600 is within 0.08 of uniform, but for one time in a thousand (Kolmogorov-Smirnov).
def is_uniform(positions: list[float]) -> bool:
    count = len(positions)
    return all(
        abs(position - number / count) < 0.08 for number, position in enumerate(sorted(positions))
    )


class TestScales:
    def test_linear(self) -> None:
        assert is_uniform([(float(x) + 1) / 4 for x in drawn(continuous("-1", "3", "Linear"))])

    def test_logarithmic(self) -> None:
        values = [float(x) for x in drawn(continuous("0.0001", "1", "Logarithmic"))]
        assert is_uniform([1 + math.log10(x) / 4 for x in values])

    def test_reverse_logarithmic(self) -> None:
        values = [float(x) for x in drawn(continuous("0", "0.9999", "ReverseLogarithmic"))]
        assert is_uniform([-math.log10(1 - x) / 4 for x in values])

    def test_integers(self) -> None:
        firsts = first_of_many_seeds(integer("1", "3"))
        assert min(firsts.count(number) for number in (1, 2, 3)) > 70

    def test_logarithmic_integers(self) -> None:
        firsts = first_of_many_seeds(integer("1", "1000", "Logarithmic"))
        assert 120 < sum(number <= 31 for number in firsts) < 180

    @pytest.mark.parametrize(
        ("known", "scale"),
        [
            (continuous("0.0001", "0.1"), "Logarithmic"),
            (continuous("0", "1"), "Linear"),
            (continuous("0.1", "0.9"), "Linear"),
            (integer("1", "64"), "Linear"),
            (integer("8", "1024"), "Logarithmic"),
        ],
    )
    def test_auto_takes_the_logarithm_for_several_orders(
        self, known: tuple[Range, ...], scale: str
    ) -> None:
        (found,) = known
        assert not isinstance(found, ranges.CategoricalRange)
        assert found.scale == scale


def test_values_are_plain_decimals_in_their_range() -> None:
    texts = drawn(continuous("0.0000001", "0.00001"), 50)
    assert all(re.fullmatch(r"0\.0{4,}[0-9]+", text) for text in texts)
    assert all(1e-7 <= float(text) <= 1e-5 for text in texts)
    assert set(drawn(integer("3", "3"), 1)) == {"3"}


@pytest.mark.parametrize("strategy", ["Random", "Bayesian", "Hyperband"])
def test_the_same_seed_proposes_the_same(strategy: str) -> None:
    known, limits = continuous("0", "1"), Resources(1, 9)
    resources = limits if strategy == "Hyperband" else None
    one, same, other = (
        proposed(known, 4, strategy=strategy, seed=seed, resources=resources) for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_a_resumed_search_proposes_what_an_unbroken_one_would(strategy: str) -> None:
    def loss(x: float) -> float:
        return (x - 0.3) ** 2

    unbroken, resumed = (create(continuous("-1", "1"), strategy) for _ in range(2))
    for _ in range(8):
        proposal = unbroken.propose()
        assert proposal is not None
        value = loss(float(proposal.hyperparameters["x"]))
        unbroken.conclude(proposal, value)
        resumed.conclude(resumed.resume(proposal.hyperparameters), value)
    after = [proposal.hyperparameters for own in (unbroken, resumed) if (proposal := own.propose())]
    assert len(after) == 2
    assert after[0] == after[1]


@pytest.mark.parametrize("strategy", ["Grid", "Random", "Bayesian"])
def test_a_finite_space_is_tried_without_repeats_until_nothing_is_left(strategy: str) -> None:
    own = create(categorical(a=["1", "2", "3"], b=["x", "y"]), strategy)
    tried = []
    while proposal := own.propose():
        tried.append(tuple(proposal.hyperparameters.values()))
        own.conclude(proposal, 1.0)
    assert sorted(tried) == list(itertools.product("123", "xy"))


def test_a_resumed_grid_leaves_out_what_was_tried() -> None:
    own = create(categorical(a=["1", "2", "3"]), "Grid")
    own.resume({"a": "2"})
    found = [own.propose() for _ in range(3)]
    assert [proposal and proposal.hyperparameters["a"] for proposal in found] == ["1", "3", None]


def test_a_bayesian_search_beats_a_random_one() -> None:
    def best(strategy: str) -> float:
        searches = [create(continuous("-1", "1"), strategy, seed=seed) for seed in range(8)]
        return statistics.median(
            min(minimized(own, lambda x: (x - 0.3) ** 2, 20)) for own in searches
        )

    assert best("Bayesian") < best("Random") / 2


def test_the_direction_can_be_up() -> None:
    own = create(continuous("-1", "1"), "Bayesian", maximize=True)
    gains = minimized(own, lambda x: -((x - 0.3) ** 2), 25)
    assert statistics.fmean(gains[-10:]) > statistics.fmean(gains[:10])


def test_what_other_trials_gave_is_learned_if_it_is_in_range() -> None:
    own = create(continuous("-1", "1"), "Bayesian")
    for step in range(-20, 21):
        own.learn({"x": str(step / 10), "other": "7"}, (step / 10 - 0.3) ** 2)
    own.learn({"x": "not a number"}, -5.0)
    own.learn({}, -5.0)
    assert min(minimized(own, lambda x: (x - 0.3) ** 2, 3)) < 0.05


def test_failed_trials_do_not_disturb_a_search() -> None:
    own = create(continuous("-1", "1"), "Bayesian")
    losses = []
    for _ in range(20):
        proposal = own.propose()
        assert proposal is not None
        x = float(proposal.hyperparameters["x"])
        own.conclude(proposal, None if x < 0 else x)
        losses.append(x)
    assert any(x < 0 for x in losses)


def test_hyperband_gives_most_epochs_to_the_best() -> None:
    own = create(continuous("0", "1"), "Hyperband", resources=Resources(1, 9))
    epochs: dict[float, int] = {}
    for _ in range(30):
        proposal = own.propose()
        assert proposal is not None
        loss = (float(proposal.hyperparameters["x"]) - 0.3) ** 2
        values: list[float] = []
        while len(values) < 9:
            values.append(loss * (1 + 1 / (1 + len(values))))
            if own.judge(proposal, values):
                break
        own.conclude(proposal, values[-1])
        epochs[loss] = len(values)
    assert set(epochs.values()) == {1, 3, 9}
    assert sum(epochs.values()) < 0.6 * 30 * 9
    assert epochs[min(epochs)] == 9


class TestCriteria:
    def test_an_improvement_counts_if_it_is_more_than_one_percent(self) -> None:
        assert completion.not_improving([1.0, 0.995, 0.98, 0.99], maximize=False) == 1
        assert completion.not_improving([0.9, 0.905, 0.908], maximize=True) == 2
        assert completion.not_improving([], maximize=True) == 0

    def test_a_search_has_converged_when_half_of_it_brought_nothing(self) -> None:
        improving = [1 / number for number in range(1, 21)]
        assert completion.converged_after(improving, maximize=False) is None
        assert completion.converged_after([*improving, *[0.05] * 30], maximize=False) == 40
        assert completion.converged_after([0.5] * 9, maximize=False) is None

    def test_convergence_ends_a_search_only_where_asked(self) -> None:
        flat = [0.5] * 12
        asked = {"ConvergenceDetected": {"CompleteOnConvergence": "Enabled"}}
        assert completion.is_met(asked, flat, maximize=True)
        assert not completion.is_met({}, flat, maximize=True)
        assert not completion.is_met(asked, [], maximize=True)

    def test_a_target_is_reached_from_either_side(self) -> None:
        target = {"TargetObjectiveMetricValue": 0.9}
        assert completion.is_met(target, [0.2, 0.9], maximize=True)
        assert not completion.is_met(target, [0.2, 0.89], maximize=True)
        assert completion.is_met(target, [1.2, 0.9], maximize=False)

    def test_a_trial_is_measured_by_the_running_averages_of_earlier_ones(self) -> None:
        earlier = [[1.0, 0.5, 0.3], [0.8, 0.6], [2.0]]  # at epoch 2: 0.75 and 0.7

        def worse(values: list[float], seen: int = 0) -> bool:
            return completion.is_worse_than_median(values, earlier, seen=seen, maximize=False)

        assert not worse([1.0, 0.72])
        assert worse([1.0, 0.73])
        assert not worse([1.5, 0.5], seen=1)
        assert not worse([1.0, 0.7, 0.6, 9.0])  # no earlier trial came as far
        assert not completion.is_worse_than_median([1.0], [], seen=0, maximize=True)


@pytest.mark.parametrize(
    ("regex", "lines", "sentence"),
    [
        (
            "validation_accuracy=([0-9.]+)",
            ["Loading data", "epoch 1 loss=0.53", "validation accuracy: 0.93", "Saved a model"],
            "the line nearest to matching is 'validation accuracy: 0.93'.",
        ),
        (
            r"Test set: Average loss: ([0-9\.]+)",
            ["Train Epoch: 1 [0/60000] Loss: 2.3", "Testing set: average loss: 0.05", "Saving"],
            "the line nearest to matching is 'Testing set: average loss: 0.05'.",
        ),
        (
            "loss=(.*?)",
            ["loss=0.8", "done"],
            "matches the line 'loss=0.8', but what its first group captures, '', is not a finite",
        ),
        (r"loss=(\S+)", ["loss=nan"], "captures, 'nan', is not a finite number."),
        (r"loss=(\S+)", [], "wrote no line at all."),
    ],
)
def test_a_metric_without_values_is_explained(regex: str, lines: list[str], sentence: str) -> None:
    metrics = Metrics([{"Name": "loss", "Regex": regex}], "job")
    for line in lines:
        metrics.read(line)
    explanation = metrics.explain_absence("loss")
    assert regex in explanation
    assert sentence in explanation


def test_the_server_starts_without_optuna() -> None:
    code = "import sys, local.operations; print('optuna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
