"""What is done to endpoints after the answer: create, update, scale, bring back, delete."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from botocore.exceptions import BotoCoreError, ClientError

from local.hosting import endpoint_documents
from local.hosting.deployment_policy import Policy, policy
from local.hosting.endpoint_documents import enter_stage, settle
from local.hosting.fleet import Fleet, Instance, count
from local.hosting.launcher import Launcher
from local.hosting.live_endpoint import LiveEndpoint, await_idle
from local.hosting.serving import NotServing
from local.site import Site
from local.store import Document
from local.training.states import REASON_CHARACTERS

log = logging.getLogger("local")

KIND = "endpoint"
# The longest that a streamed answer may take.
DRAIN_S = 480.0
DELETE_DRAIN_S = 30.0
WATCH_S = 1.0


class RolledBack(Exception):
    """An update is not to go on; the sentence is the FailureReason."""


class Ending(Exception):
    """The server ends: the next one goes on with it."""


class Deployments:
    """Each method runs in a thread of its own, one at a time for each endpoint."""

    def __init__(self, site: Site, launcher: Launcher, ending: threading.Event) -> None:
        self._site, self._launcher, self._ending = site, launcher, ending

    def run(self, live: LiveEndpoint, action: Callable[[LiveEndpoint], None]) -> None:
        live.deploying = True
        try:
            action(live)
        except Ending:
            pass
        except Exception as error:  # whatever it is, nothing must stay in progress for ever
            if not self._ending.is_set():
                log.exception("Endpoint %s", live.name)
                self._give_up(live, f"InternalServerError: {error!r}", "Failed")
        finally:
            live.deploying = False

    def create(self, live: LiveEndpoint) -> None:
        config = self._document(live)["_Config"]
        try:
            fleet = self._launcher.fleet(live.name, config)
        except NotServing as error:
            self._give_up(live, str(error), "Failed")
        else:
            self._serve(live, fleet, config)

    def update(self, live: LiveEndpoint) -> None:
        """Blue and green: the old fleet stays until the new one has proved itself."""
        asked = self._document(live)["_Pending"]
        config, old = asked["Config"], live.routes.fleets
        plan = policy(asked["Deployment"], sum(map(count, config["ProductionVariants"])))
        deadline = time.monotonic() + plan.limit_s
        try:
            self._watch(0.0, plan, deadline)
            new = self._launcher.fleet(live.name, config)
        except (NotServing, RolledBack) as error:
            self._give_up(live, str(error), "OutOfService")
            return
        try:
            self._shift(live, old, new, plan, deadline)
        except RolledBack as error:
            self._change(live, lambda document: document.update(EndpointStatus="RollingBack"))
            live.routes.set(*((1.0, fleet) for fleet in old[:1]))
            self._retire(live, new)
            self._give_up(live, str(error), "OutOfService")
        else:
            for fleet in old:
                self._retire(live, fleet)
            self._serve(live, new, config)

    def scale(self, live: LiveEndpoint) -> None:
        """New weights and numbers of containers."""
        document, fleet = self._document(live), live.routes.fleets[0]
        wanted = {v["VariantName"]: v for v in document["ProductionVariants"]}
        steps = {
            variant: wanted[name]["DesiredInstanceCount"] - len(variant.instances)
            for name, variant in fleet.variants.items()
            if "DesiredInstanceCount" in wanted[name]
        }
        try:
            more = {variant: number for variant, number in steps.items() if number > 0}
            started = self._launcher.instances(live.name, more)
        except NotServing as error:
            self._change(live, lambda document: document.update(EndpointStatus="RollingBack"))
            self._change(live, endpoint_documents.revert)
            self._give_up(live, str(error), "OutOfService")
            return
        for variant, instances in started.items():
            live.routes.add(variant, instances)
        for name, variant in fleet.variants.items():
            live.routes.weigh(variant, wanted[name]["DesiredWeight"])
        for variant, number in steps.items():
            if number < 0:
                self._stop(live.routes.remove(variant, -number), DRAIN_S)
        self._change(live, settle)
        self._change(live, _in_service)

    def recover(self, live: LiveEndpoint) -> None:
        """After a restart: serves what was served, then goes on with what was under way."""
        document = self._document(live)
        if document["EndpointStatus"] == "Creating":
            self.create(live)
            return
        config = document["_Config"]
        live.asynchronous = config.get("AsyncInferenceConfig")
        try:
            live.routes.set((1.0, self._launcher.fleet(live.name, config)))
        except NotServing as error:
            if "_Pending" not in document:
                self._give_up(live, str(error), "OutOfService")
                return
        if "_Pending" in document:
            self.update(live)
        elif document.get("_Scaling"):
            self.scale(live)
        else:
            self._change(live, _in_service)

    def delete(self, live: LiveEndpoint) -> None:
        document, fleets = self._document(live), live.routes.fleets
        live.routes.set()
        for fleet in fleets:
            self._retire(live, fleet, DELETE_DRAIN_S)
        self._site.store.delete(KIND, live.name)
        self._site.store.delete_tags(document["EndpointArn"])

    def _shift(
        self, live: LiveEndpoint, old: list[Fleet], new: Fleet, plan: Policy, deadline: float
    ) -> None:
        """Raises RolledBack."""
        for share in plan.steps:
            self._change(live, lambda document: enter_stage(document, "ActivatingTraffic"))
            rest = [(1.0 - share, fleet) for fleet in old] if share < 1 else []
            live.routes.set(*rest, (share, new))
            self._change(live, lambda document: enter_stage(document, "Baking"))
            self._watch(plan.wait_s, plan, deadline)
        if old:
            self._watch(plan.termination_s, plan, deadline)

    def _watch(self, seconds: float, plan: Policy, deadline: float) -> None:
        """Waits, and looks at the alarms. Raises RolledBack, Ending."""
        until = time.monotonic() + seconds
        while True:
            if fired := self._fired(plan.alarms):
                raise RolledBack(
                    f"The deployment was rolled back because of alarms in state ALARM: {fired}."
                )
            now = time.monotonic()
            if now > deadline:
                raise RolledBack(
                    f"The deployment took longer than MaximumExecutionTimeoutInSeconds "
                    f"{plan.limit_s:.0f}."
                )
            if now >= until:
                return
            if self._ending.wait(min(until - now, WATCH_S)):
                raise Ending

    def _fired(self, names: tuple[str, ...]) -> str:
        """The names of those alarms that fire. Raises RolledBack."""
        if not names:
            return ""
        try:
            found = self._site.aws.cloudwatch.describe_alarms(
                AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        except (BotoCoreError, ClientError) as error:
            raise RolledBack(f"The alarms can't be read: {error}.") from None
        alarms = [*found.get("MetricAlarms", []), *found.get("CompositeAlarms", [])]
        if missing := set(names) - {alarm["AlarmName"] for alarm in alarms}:
            raise RolledBack(f"CloudWatch has no alarms {', '.join(sorted(missing))}.")
        return ", ".join(a["AlarmName"] for a in alarms if a["StateValue"] == "ALARM")

    def _serve(self, live: LiveEndpoint, fleet: Fleet, config: Document) -> None:
        members = endpoint_documents.served(self._site, config)
        live.asynchronous = config.get("AsyncInferenceConfig")
        live.routes.set((1.0, fleet))

        def change(document: Document) -> None:
            _in_service(document)
            document.update(members, _Config=config)

        self._change(live, change)

    def _give_up(self, live: LiveEndpoint, reason: str, without_fleet: str) -> None:
        """What served before goes on. Raises Ending."""
        if self._ending.is_set():
            raise Ending
        log.warning("Endpoint %s: %s", live.name, reason)

        def change(document: Document) -> None:
            _in_service(document)
            if not live.routes.fleets:
                document["EndpointStatus"] = without_fleet
            document["FailureReason"] = reason[:REASON_CHARACTERS]

        self._change(live, change)

    def _retire(self, live: LiveEndpoint, fleet: Fleet, drain_s: float = DRAIN_S) -> None:
        """Of a fleet that gets no more requests. Raises Ending."""
        self._stop(fleet.instances, drain_s)
        live.flush(fleet, self._site.aws)

    def _stop(self, instances: Iterable[Instance], drain_s: float) -> None:
        instances = list(instances)
        await_idle(instances, drain_s, self._ending)
        if self._ending.is_set():  # the launcher stops them all
            raise Ending
        self._launcher.stop(instances)

    def _document(self, live: LiveEndpoint) -> Document:
        return self._site.store.get(KIND, live.name)

    def _change(self, live: LiveEndpoint, change: Callable[[Document], None]) -> None:
        def modify(document: Document) -> None:
            change(document)
            document["LastModifiedTime"] = time.time()

        self._site.store.change(KIND, live.name, modify)


def _in_service(document: Document) -> None:
    """Nothing is under way any more."""
    for member in ("FailureReason", "PendingDeploymentSummary", "_Pending", "_Scaling"):
        document.pop(member, None)
    document["EndpointStatus"] = "InService"
