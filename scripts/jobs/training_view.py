"""How a training job is shown to people, and told to programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scripts.jobs import epochs
from scripts.jobs.find import Description
from scripts.jobs.job_request import described as where
from scripts.log_lines import Line
from scripts.session import Session

REMARK = "cyan"
RULE_STYLES = {"IssuesFound": "bold yellow", "NoIssuesFound": "green", "Error": "red"}


@dataclass(frozen=True)
class RuleStatus:
    """What Debugger says of one rule."""

    name: str
    status: str
    details: str


def rules_of(described: Description) -> list[RuleStatus]:
    """Tensor rules, then profiler rules; empty if none were asked for or none is told of."""
    return [
        RuleStatus(
            status.get("RuleConfigurationName", ""),
            status.get("RuleEvaluationStatus", ""),
            status.get("StatusDetails", "").strip(),
        )
        for kind in ("Debug", "Profiler")
        for status in described.get(f"{kind}RuleEvaluationStatuses", [])
    ]


def metrics_of(described: Description) -> dict[str, float]:
    """The last value of each metric."""
    return {m["MetricName"]: m["Value"] for m in described.get("FinalMetricDataList", [])}


def saved_percent(described: Description) -> float | None:
    """What managed spot saved; None without it."""
    took, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if not described.get("EnableManagedSpotTraining") or not took or billed is None:
        return None
    return float(100 * (1 - billed / took))


def document(described: Description) -> dict[str, Any]:
    """For --json."""
    saved = saved_percent(described)
    return {
        "name": described["TrainingJobName"],
        "status": described["TrainingJobStatus"],
        "hyperparameters": described.get("HyperParameters", {}),
        "metrics": metrics_of(described),
        "training_seconds": described.get("TrainingTimeInSeconds"),
        "billable_seconds": described.get("BillableTimeInSeconds"),
        "spot_saved_percent": None if saved is None else round(saved, 1),
        "model": described.get("ModelArtifacts", {}).get("S3ModelArtifacts"),
        "rules": [vars(rule) for rule in rules_of(described)],
    }


def show_start(session: Session, request: Mapping[str, Any], remarks: Sequence[str]) -> None:
    """What was asked of AWS, and what a person should know about it."""
    train, console = session.settings.train, session.console
    console.print(
        f"Training job [bold]{escape(request['TrainingJobName'])}[/]: {escape(where(train))}, at "
        f"most {train.max_hours:g} h."
    )
    values = " ".join(f"{name}={value}" for name, value in request["HyperParameters"].items())
    for sentence in (f"Hyperparameters: {values or 'all are the trainer’s choice'}.", *remarks):
        console.print(sentence, style=REMARK, markup=False)


class TrainingView:
    """Lines for people. While it is open and a person watches, a bar shows what is under way."""

    def __init__(self, session: Session, *, quiet: bool) -> None:
        self._console, self._quiet = session.console, quiet
        self._progress = session.progress()
        self._task = self._progress.add_task("", total=None)
        self._told_states = 0

    def __enter__(self) -> "TrainingView":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        self._console.print(sentence, style=REMARK, markup=False)

    def states(self, described: Description) -> bool:
        """Tells what states it has entered since the last look; whether there was any."""
        transitions = described.get("SecondaryStatusTransitions", [])
        for transition in transitions[self._told_states :]:
            message = transition.get("StatusMessage", "")
            self._console.print(f"[bold]{transition['Status']}[/]  {escape(message)}")
            self._progress.update(self._task, description=transition["Status"])
        moved = len(transitions) > self._told_states
        self._told_states = max(self._told_states, len(transitions))
        return moved

    def line(self, line: Line) -> bool:
        """Always true: it is there."""
        ends_epoch = epochs.is_epoch(line.text)
        if ends_epoch:
            self._progress.advance(self._task)
        if ends_epoch or not self._quiet:
            text = Text.from_ansi(line.text, style="bold" if ends_epoch else "dim")
            self._console.print(Text(_host(line), style="dim").append_text(text))
        return True

    def result(self, described: Description) -> None:
        """What came of a completed job."""
        for name, value in metrics_of(described).items():
            self._console.print(f"{name:>15} {value:.4f}")
        self._show_rules(described)
        self._console.print(_billed(described))
        model = described.get("ModelArtifacts", {}).get("S3ModelArtifacts", "none")
        self._console.print(f"Model: {escape(model)}")

    def _show_rules(self, described: Description) -> None:
        rules = rules_of(described)
        asked = [
            rule["RuleConfigurationName"]
            for kind in ("Debug", "Profiler")
            for rule in described.get(f"{kind}RuleConfigurations", [])
        ]
        if not rules and asked:
            self.say(f"Nothing is told of the rules that were asked for: {', '.join(asked)}.")
        if not rules:
            return
        table = Table("rule", "status", "details", box=None)
        for rule in rules:
            style = RULE_STYLES.get(rule.status, "")
            table.add_row(Text(rule.name), Text(rule.status, style=style), Text(rule.details))
        self._console.print(table, soft_wrap=False)


def _host(line: Line) -> str:
    """`algo-2 ` of JOB/algo-2-1700000000; of the first host nothing."""
    host = "-".join(line.stream.rpartition("/")[2].split("-")[:2])
    return "" if host == "algo-1" else f"{host} "


def _billed(described: Description) -> str:
    took, billed = described.get("TrainingTimeInSeconds"), described.get("BillableTimeInSeconds")
    if took is None or billed is None:
        return "How long it took is not told."
    count = described.get("ResourceConfig", {}).get("InstanceCount", 1)
    saved = saved_percent(described)
    spot = "" if saved is None else f"; managed spot saved {saved:.0f} %"
    instances = "" if count == 1 else f" on each of {count} instances"
    return f"Trained {took} s, billed {billed} s{instances}{spot}."
