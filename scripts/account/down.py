"""Deletes what a plan names, waits until it is gone, and tells what is left."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from scripts.account.down_plan import Deletion, Plan, Stage, deletion_document, plan_down
from scripts.account.empty_bucket import NotDeleted, delete_objects, is_empty
from scripts.account.inventory import take_inventory
from scripts.account.sagemaker_things import find_jobs
from scripts.account.things import Folder, Inventory
from scripts.aws_errors import sentence
from scripts.data.parallel import in_parallel
from scripts.hosting.endpoints import IN_PROGRESS, find_endpoint
from scripts.jobs.find import KINDS
from scripts.jobs.watch import Watch
from scripts.project import PUSHED
from scripts.session import Session

THREADS = 8
# SageMaker's own waiter gives a new endpoint an hour; a stopped job has 120 s and its upload.
ENDPOINTS_S = 5400.0
JOBS_S = 1800.0
GOES_ON = "What was asked to stop or to go does so by itself. The rest: kennel down again."


@dataclass(frozen=True)
class Down:
    """What has gone, and for each thing that is left a sentence why."""

    plan: Plan
    deleted: Sequence[Deletion]
    left: Sequence[str]

    def document(self) -> dict[str, Any]:
        return {
            "deleted": [deletion_document(deletion) for deletion in self.deleted],
            "kept": list(self.plan.kept),
            "left": list(self.left),
        }


def find_plan(
    session: Session, *, jobs: bool = False, images: bool = False, data: bool = False
) -> Plan:
    return plan_down(take_inventory(session, ended=jobs), jobs=jobs, images=images, data=data)


def down(session: Session, plan: Plan) -> Down:
    """All of the plan. What can't be deleted does not keep the rest from it."""
    return Sweep(session, plan).run()


@dataclass
class Sweep:
    """A plan on its way: `done` is gone for sure, `errors` are AWS's answers to the others."""

    session: Session
    plan: Plan
    done: list[Deletion] = field(default_factory=list)
    errors: dict[Deletion, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._progress = self.session.progress()

    @property
    def open(self) -> list[Deletion]:
        return [deletion for deletion in self.plan.deletions if deletion not in self.done]

    def run(self) -> Down:
        with self._progress as progress:
            task = progress.add_task("", total=len(self.plan.deletions))
            for what, step in self._steps():
                progress.update(task, description=what, completed=len(self.done))
                step()
        left = self._left(take_inventory(self.session, ended=self.plan.jobs))
        return Down(self.plan, self.done, left)

    def _steps(self) -> list[tuple[str, Callable[[], None]]]:
        send = self._send
        return [
            ("Stopping jobs", lambda: send(Stage.STOP, is_done=False)),
            ("Ending autoscaling", lambda: send(Stage.SCALING)),
            ("Deleting endpoints", self._delete_endpoints),
            ("Deleting alarms", lambda: send(Stage.ALARM)),
            ("Deleting configurations", lambda: send(Stage.CONFIG)),
            ("Deleting models", lambda: send(Stage.MODEL)),
            ("Waiting for jobs to stop", self._await_jobs),
            ("Deleting records", lambda: send(Stage.RECORD)),
            ("Deleting images", self._delete_images),
            ("Deleting data", self._delete_data),
        ]

    def _send(self, stage: Stage, *, is_done: bool = True) -> None:
        deletions = self.plan.of(stage)
        for deletion, error in zip(
            deletions, in_parallel(self._try, deletions, THREADS), strict=True
        ):
            if error:
                self.errors[deletion] = error
            elif is_done:
                self._tell(deletion)

    def _try(self, deletion: Deletion) -> str:
        """AWS's error as a sentence; empty if all is well."""
        assert deletion.call
        try:
            deletion.call.send(self.session.stack)
        except (BotoCoreError, ClientError) as error:
            return sentence(error)
        return ""

    def _tell(self, deletion: Deletion) -> None:
        self.done.append(deletion)
        self.session.console.print(f"[green]✓[/] {escape(deletion.sentence())}")

    def _delete_endpoints(self) -> None:
        """AWS deletes none while it is being made or changed, and configurations only after."""
        watch, end = Watch(self.session.console, GOES_ON), time.monotonic() + ENDPOINTS_S
        waiting, told = self.plan.of(Stage.ENDPOINT), set[str]()
        while waiting:
            waiting = [one for one in waiting if self._is_still_there(one, watch, told)]
            if waiting and time.monotonic() > end:
                for one in waiting:
                    self.errors[one] = f"It is still there after {ENDPOINTS_S / 60:.0f} minutes."
                return
            if waiting:
                watch.wait(moved=False)

    def _is_still_there(self, deletion: Deletion, watch: Watch, told: set[str]) -> bool:
        """Has it deleted as soon as AWS lets one; False too where it never will."""
        name = deletion.name

        def status() -> str:
            found = find_endpoint(self.session.stack, name)
            return found["EndpointStatus"] if found else ""

        state = watch.ask(status)
        if state and state not in IN_PROGRESS:
            if (error := self._try(deletion)) and watch.ask(status) == state:
                self.errors[deletion] = error
                return False
        elif state not in ("", "Deleting") and name not in told:
            told.add(name)
            self.session.console.print(
                f"Endpoint {escape(name)} is {state}: AWS deletes it only afterwards. Waiting."
            )
        if not state:
            self._tell(deletion)
        return bool(state)

    def _await_jobs(self) -> None:
        """Until what was asked to stop has stopped, trials with their tuning job."""
        watch, end = Watch(self.session.console, GOES_ON), time.monotonic() + JOBS_S
        waiting = self.plan.of(Stage.STOP)
        while waiting:
            running = watch.ask(self._running)
            for one in [one for one in waiting if one.name not in running]:
                waiting.remove(one)
                self._tell(one)
            # AWS may refuse to stop what is stopping; all else it refuses will go on running.
            waiting = [
                one for one in waiting if one not in self.errors or running[one.name] == "Stopping"
            ]
            if waiting and time.monotonic() > end:
                for one in waiting:
                    self.errors[one] = f"It has not stopped within {JOBS_S / 60:.0f} minutes."
                return
            if waiting:
                watch.wait(moved=False)

    def _running(self) -> dict[str, str]:
        """States of the jobs that run, by name; of a tuning job as long as its trials do."""
        stack, project = self.session.stack, self.session.project
        jobs = [job for kind in KINDS for job in find_jobs(stack, project, kind, ended=False)]
        alive = [job for job in jobs if not job.ended]
        return {job.of: "Stopping" for job in alive} | {job.name: job.state for job in alive}

    def _delete_images(self) -> None:
        self._send(Stage.REPOSITORY)
        if self.plan.images and not any(
            one in self.errors for one in self.plan.of(Stage.REPOSITORY)
        ):
            PUSHED.unlink(missing_ok=True)  # its digests are of images that are gone

    def _delete_data(self) -> None:
        data, stack = self.plan.inventory.data, self.session.stack
        if data is None:
            return
        for deletion in self.plan.of(Stage.DATA):
            task = self._progress.add_task("Objects", total=data.all.objects + data.all.old)
            try:
                delete_objects(stack, data, partial(self._progress.advance, task))
            except NotDeleted as error:
                self.errors[deletion] = str(error)
            except (BotoCoreError, ClientError) as error:
                self.errors[deletion] = sentence(error)
            else:
                self._tell(deletion)
        for deletion in self.plan.of(Stage.BUCKET):
            self._delete_bucket(deletion)

    def _delete_bucket(self, deletion: Deletion) -> None:
        """One with other things in it stays, which is no error."""
        try:
            if not is_empty(self.session.stack, deletion.name):
                self.session.console.print(
                    f"The bucket {escape(deletion.name)} stays: something else lies in it."
                )
                return
        except (BotoCoreError, ClientError) as error:
            self.errors[deletion] = sentence(error)
            return
        self._send(Stage.BUCKET)

    def _left(self, now: Inventory) -> list[str]:
        """Whatever AWS answered: what counts is what is there now."""
        known = {(thing.kind, thing.name) for thing in self.plan.inventory.things}
        records = {(one.kind, one.name) for one in self.plan.of(Stage.RECORD)}
        left = []
        for thing in now.things:
            if thing.ended and (thing.kind, thing.name) not in records:
                continue
            state = f" ({thing.state})" if thing.state else ""
            new = "" if (thing.kind, thing.name) in known else " It was made meanwhile."
            left.append(
                f"{thing.kind} {thing.name}{state}: {self._why(thing.kind, thing.name)}{new}"
            )
        if self.plan.images:
            left += [
                f"repository {one.name}: {self._why('repository', one.name)}"
                for one in now.repositories
            ]
        if self.plan.data and now.data and now.data.all != Folder():
            left.append(f"{now.data.uri}: {self._why('all of', now.data.uri)}")
        bucket = [
            f"bucket {one.name}: {self.errors[one]}"
            for one in self.plan.of(Stage.BUCKET)
            if one in self.errors and now.data
        ]
        return [*left, *bucket, *now.not_visible]

    def _why(self, kind: str, name: str) -> str:
        for deletion, error in self.errors.items():
            if (deletion.kind, deletion.name) == (kind, name):
                return error
        return "it is there still or again."
