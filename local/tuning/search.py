"""Which hyperparameters a tuning job tries next: Optuna's searches, and the grid.

What is proposed depends only on the seed, on how many proposals there were and, for Bayesian, on
what is known by then; so a search goes on after a restart as if there had been none.
"""

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from local.tuning.ranges import (
    CategoricalRange,
    ContinuousRange,
    IntegerRange,
    Range,
    Value,
    combinations,
)

if TYPE_CHECKING:
    import optuna

# The tree of Parzen estimators begins after this many random trials. Tuning jobs are short.
STARTUP_TRIALS = 5
# Spaces up to this many combinations are searched without trying one twice.
ENUMERABLE = 100_000


@dataclass(frozen=True)
class Resources:
    """Hyperband's MinResource and MaxResource, in values of the objective metric: epochs."""

    least: int
    most: int


@dataclass(frozen=True)
class Proposal:
    """Hyperparameters to try, as text."""

    hyperparameters: Mapping[str, str]
    trial: "optuna.Trial | None" = None


class Search(Protocol):
    """Not for several threads."""

    def propose(self) -> Proposal | None:
        """None if everything has been tried."""

    def resume(self, hyperparameters: Mapping[str, str]) -> Proposal:
        """What was proposed, in this order, before a restart."""

    def judge(self, proposal: Proposal, values: Sequence[float]) -> bool:
        """Whether a trial that has reported these values is not worth going on with."""

    def conclude(self, proposal: Proposal, value: float | None) -> None:
        """The trial's objective, or None if it failed."""

    def learn(self, hyperparameters: Mapping[str, str], value: float) -> None:
        """What a trial of another tuning job gave; of use where all its values are in range."""


class GridSearch:
    """All combinations of categorical hyperparameters, each once."""

    def __init__(self, ranges: Sequence[CategoricalRange]) -> None:
        self._names = [found.name for found in ranges]
        self._left = itertools.product(*(found.choices for found in ranges))
        self._resumed: set[tuple[str, ...]] = set()

    def propose(self) -> Proposal | None:
        values = next((v for v in self._left if v not in self._resumed), None)
        return None if values is None else Proposal(dict(zip(self._names, values, strict=True)))

    def resume(self, hyperparameters: Mapping[str, str]) -> Proposal:
        self._resumed.add(tuple(hyperparameters[name] for name in self._names))
        return Proposal(hyperparameters)

    def judge(self, proposal: Proposal, values: Sequence[float]) -> bool:
        return False

    def conclude(self, proposal: Proposal, value: float | None) -> None:
        """The grid learns nothing."""

    def learn(self, hyperparameters: Mapping[str, str], value: float) -> None:
        """The grid learns nothing."""


class OptunaSearch:
    """Random, Bayesian (a tree of Parzen estimators) and Hyperband search."""

    def __init__(
        self,
        ranges: Sequence[Range],
        strategy: str,
        *,
        maximize: bool,
        seed: int,
        resources: Resources | None = None,
    ) -> None:
        import optuna  # takes a third of a second, which the start of the server need not wait for

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._ranges = {found.name: found for found in ranges}
        self._distributions = {found.name: _distribution(found) for found in ranges}
        self._bayesian, self._seed, self._resources = strategy == "Bayesian", seed, resources
        self._study = optuna.create_study(
            study_name="tuning",  # Hyperband deals out its brackets by it
            direction="maximize" if maximize else "minimize",
            pruner=optuna.pruners.HyperbandPruner(resources.least, resources.most)
            if resources
            else optuna.pruners.NopPruner(),
        )
        self._space = combinations(tuple(ranges))
        self._proposed = 0
        self._tried: set[tuple[str, ...]] = set()
        self._epochs: dict[int, int] = {}  # reported so far, by Optuna's number of the trial

    def propose(self) -> Proposal | None:
        self._study.sampler = self._sampler()
        trial = self._study.ask(self._distributions)
        proposal = Proposal(self._texts(trial.params), trial)
        if self._key(proposal.hyperparameters) in self._tried and self._enumerable:
            self.conclude(proposal, None)
            untried = self._untried()
            if untried is None:
                return None
            proposal = self._given(untried)
        self._count(proposal)
        return proposal

    def resume(self, hyperparameters: Mapping[str, str]) -> Proposal:
        proposal = self._given(hyperparameters)
        self._count(proposal)
        return proposal

    def judge(self, proposal: Proposal, values: Sequence[float]) -> bool:
        """Hyperband's rungs. The last epoch is never cut short: after it the model is written."""
        if self._resources is None or proposal.trial is None:
            return False
        if len(values) > self._resources.most:
            return True
        reported = self._epochs.get(proposal.trial.number, 0)
        for epoch, value in enumerate(values[reported:], reported + 1):
            self._epochs[proposal.trial.number] = epoch
            proposal.trial.report(value, epoch)
            if proposal.trial.should_prune() and epoch < self._resources.most:
                return True
        return False

    def conclude(self, proposal: Proposal, value: float | None) -> None:
        from optuna.trial import TrialState

        assert proposal.trial is not None
        if value is None:
            self._study.tell(proposal.trial, state=TrialState.FAIL)
        else:
            self._study.tell(proposal.trial, value)

    def learn(self, hyperparameters: Mapping[str, str], value: float) -> None:
        import optuna

        params = self._params(hyperparameters)
        if params is not None:
            trial = optuna.trial.create_trial(
                params=params, distributions=self._distributions, value=value
            )
            self._study.add_trial(trial)

    @property
    def _enumerable(self) -> bool:
        return self._space is not None and self._space <= ENUMERABLE

    def _count(self, proposal: Proposal) -> None:
        self._proposed += 1
        self._tried.add(self._key(proposal.hyperparameters))

    def _sampler(self) -> "optuna.samplers.BaseSampler":
        """A new one for each proposal, so that nothing but its seed has to survive a restart."""
        import optuna

        digest = hashlib.sha256(f"{self._seed}:{self._proposed}".encode()).digest()
        seed = int.from_bytes(digest[:4])
        if not self._bayesian:
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)

    def _texts(self, params: Mapping[str, Any]) -> dict[str, str]:
        return {
            name: found.text(_outside(found, params[name])) for name, found in self._ranges.items()
        }

    def _given(self, hyperparameters: Mapping[str, str]) -> Proposal:
        """A trial with values that are chosen already."""
        params = self._params(hyperparameters)
        assert params is not None, f"{hyperparameters} are not in the ranges"
        self._study.enqueue_trial(params)
        return Proposal(hyperparameters, self._study.ask(self._distributions))

    def _params(self, hyperparameters: Mapping[str, str]) -> dict[str, Any] | None:
        """The values as Optuna knows them; None if one is absent or outside of its range."""
        params: dict[str, Any] = {}
        for name, found in self._ranges.items():
            value = found.parse(hyperparameters.get(name, ""))
            if value is None:
                return None
            params[name] = _inside(found, value)
        return params

    def _untried(self) -> dict[str, str] | None:
        """Any combination that was not proposed yet, by the seed."""
        spaces = [
            [found.text(value) for value in found.values()]
            for found in self._ranges.values()
            if not isinstance(found, ContinuousRange)
        ]
        left = [key for key in itertools.product(*spaces) if key not in self._tried]
        if not left:
            return None
        chosen = random.Random(f"{self._seed}:{self._proposed}").choice(left)
        return dict(zip(self._ranges, chosen, strict=True))

    def _key(self, hyperparameters: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(hyperparameters[name] for name in self._ranges)


def create(
    ranges: Sequence[Range],
    strategy: str,
    *,
    maximize: bool,
    seed: int,
    resources: Resources | None = None,
) -> Search:
    """A search by one of SageMaker's strategies. Grid takes categorical ranges only."""
    if strategy == "Grid":
        return GridSearch([found for found in ranges if isinstance(found, CategoricalRange)])
    return OptunaSearch(ranges, strategy, maximize=maximize, seed=seed, resources=resources)


def _distribution(found: Range) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(found, CategoricalRange):
        return CategoricalDistribution(found.choices)
    if isinstance(found, IntegerRange):
        return IntDistribution(found.low, found.high, log=found.scale == "Logarithmic")
    if found.scale == "ReverseLogarithmic":
        return FloatDistribution(1 - found.high, 1 - found.low, log=True)
    return FloatDistribution(found.low, found.high, log=found.scale == "Logarithmic")


def _inside(found: Range, value: Value) -> Any:
    """Optuna knows no reverse logarithm: it searches the distance to 1."""
    if isinstance(found, ContinuousRange) and found.scale == "ReverseLogarithmic":
        return _clamped(1 - float(value), 1 - found.high, 1 - found.low)
    return value


def _outside(found: Range, value: Any) -> Value:
    if isinstance(found, ContinuousRange):
        plain = 1 - value if found.scale == "ReverseLogarithmic" else value
        return _clamped(plain, found.low, found.high)
    known: Value = value
    return known


def _clamped(value: float, low: float, high: float) -> float:
    """Logarithms may lead out of a range by a rounding error."""
    return min(max(value, low), high)
