"""The operations on endpoints, and the endpoints that run."""

import threading
import time
from collections.abc import Callable
from typing import Any

from local.hosting import deployment_policy, endpoint_configs, endpoint_documents
from local.hosting.deployment import KIND, Deployments
from local.hosting.launcher import Launcher
from local.hosting.live_endpoint import LiveEndpoint
from local.hosting.monitor import Monitor
from local.listing import Listing
from local.site import Site
from local.store import Document, Exists, Missing
from local.training.checks import check_instances
from local.wire import Refused, invalid

LISTING = Listing("EndpointName", "Endpoints", "EndpointStatus", sort_order="Descending")
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
REPORT_S = 2.0
JOIN_S = 10.0


class Endpoints:
    """Creates, tells of, changes and deletes endpoints; knows those that run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ending = threading.Event()
        self._launcher = Launcher(site)
        self._deployments = Deployments(site, self._launcher, self._ending)
        self._monitor = Monitor(self._launcher, self.running, self._ending)
        self._lock = threading.Lock()
        self._live: dict[str, LiveEndpoint] = {}
        self._threads: list[threading.Thread] = []

    def create(self, request: Document) -> Document:
        name = request["EndpointName"]
        arn = self._site.settings.arn(KIND, name)
        config = self._config(request["EndpointConfigName"])
        policy = request.get("DeploymentConfig", {})
        deployment_policy.check(policy)
        try:
            self._site.store.insert(KIND, name, _document(name, arn, config, policy))
        except Exists:
            raise invalid(f'Cannot create already existing endpoint "{arn}".') from None
        self._site.store.delete_tags(arn)
        self._site.store.add_tags(arn, request.get("Tags", []))
        with self._lock:  # one of this name that was just deleted may not be forgotten yet
            self._live[name] = LiveEndpoint(name)
        self._start(name, self._deployments.create)
        return {"EndpointArn": arn}

    def describe(self, request: Document) -> Document:
        try:
            return self._site.store.get(KIND, request["EndpointName"])
        except Missing:
            raise self._missing(request["EndpointName"]) from None

    def list(self, request: Document) -> Document:
        return LISTING.page(self._site.store.all(KIND), request)

    def delete(self, request: Document) -> Document:
        def change(document: Document) -> None:
            document["EndpointStatus"] = "Deleting"

        self._begin(request["EndpointName"], change)
        self._start(request["EndpointName"], self._deployments.delete)
        return {}

    def update(self, request: Document) -> Document:
        """The new fleet is started beside the old one, which serves until then."""
        name = request["EndpointName"]
        self.describe(request)
        config = self._config(request["EndpointConfigName"])
        deployment_policy.check(request.get("DeploymentConfig", {}))

        def change(document: Document) -> None:
            _refuse_failed(document)
            policy = request.get("DeploymentConfig", {})
            if request.get("RetainDeploymentConfig"):
                policy = policy or document.get("LastDeploymentConfig", {})
            effective = config
            if request.get("RetainAllVariantProperties"):
                excluded = request.get("ExcludeRetainedVariantProperties", [])
                kinds = {property_["VariantPropertyType"] for property_ in excluded}
                effective = endpoint_documents.retaining(config, document["_Config"], kinds)
            document["EndpointStatus"] = "Updating"
            document["_Pending"] = {"Config": effective, "Deployment": policy}
            document["PendingDeploymentSummary"] = endpoint_documents.pending(effective)
            if policy:
                document["LastDeploymentConfig"] = policy

        document = self._begin(name, change)
        self._start(name, self._deployments.update)
        return {"EndpointArn": document["EndpointArn"]}

    def update_weights(self, request: Document) -> Document:
        name = request["EndpointName"]
        wanted = {w["VariantName"]: w for w in request["DesiredWeightsAndCapacities"]}

        def change(document: Document) -> None:
            _refuse_failed(document)
            if document["EndpointStatus"] != "InService":
                raise invalid(f"Endpoint {name} is in status {document['EndpointStatus']}.")
            variants = {v["VariantName"]: v for v in document["ProductionVariants"]}
            numbers = {}
            for variant, asked in wanted.items():
                if variant not in variants:
                    raise invalid(
                        f"Endpoint {name} has no variant {variant}. It has {', '.join(variants)}."
                    )
                numbers[variant] = self._numbers(asked, variants[variant], document)
            endpoint_documents.desire(document, numbers)
            document["EndpointStatus"] = "Updating"
            document["_Scaling"] = True

        document = self._begin(name, change)
        self._start(name, self._deployments.scale)
        return {"EndpointArn": document["EndpointArn"]}

    def find(self, name: str) -> LiveEndpoint | None:
        """It may have no containers yet, or no more; None if nothing is known of such a one."""
        return self._live.get(name)

    def exists(self, name: str) -> bool:
        try:
            self._site.store.get(KIND, name)
        except Missing:
            return False
        return True

    def running(self) -> tuple[LiveEndpoint, ...]:
        with self._lock:
            return tuple(self._live.values())

    def recover(self) -> None:
        """After a restart: endpoints that were there come back."""
        for document in self._site.store.all(KIND):
            name, status = document["EndpointName"], document["EndpointStatus"]
            if status == "Deleting":
                self._start(name, self._deployments.delete)
            elif status != "Failed":
                if status in ("InService", "OutOfService", "RollingBack"):
                    self._site.store.update(KIND, name, EndpointStatus="SystemUpdating")
                self._start(name, self._deployments.recover)
        self._monitor.start()
        threading.Thread(target=self._report, name="reports", daemon=True).start()

    def end(self) -> None:
        """Stops all containers, because the server ends; the next one brings them back."""
        self._ending.set()
        self._launcher.end()
        for thread in self._threads:
            thread.join(JOIN_S)
        for live in self.running():
            live.report(self._site.aws)

    def _config(self, name: str) -> Document:
        """A configuration that can be run. Raises Refused."""
        config = endpoint_configs.find(self._site, name)
        for variant in config["ProductionVariants"]:
            if "InstanceType" in variant:
                kind, count = variant["InstanceType"], variant["InitialInstanceCount"]
                check_instances(self._site, kind, count, "endpoint usage")
        return endpoint_documents.in_force(self._site, config)

    def _begin(self, name: str, change: Callable[[Document], None]) -> Document:
        """Changes the document of an endpoint with nothing under way. Raises Refused."""

        def begin(document: Document) -> None:
            if document["EndpointStatus"] in IN_PROGRESS:
                arn = document["EndpointArn"]
                raise invalid(f'Cannot update in-progress endpoint "{arn}".')
            change(document)
            document.pop("FailureReason", None)
            document["LastModifiedTime"] = time.time()

        try:
            return self._site.store.change(KIND, name, begin)
        except Missing:
            raise self._missing(name) from None

    def _start(self, name: str, action: Callable[[LiveEndpoint], None]) -> None:
        with self._lock:
            live = self._live.setdefault(name, LiveEndpoint(name))

        def run() -> None:
            self._deployments.run(live, action)
            with self._lock:
                if self._live.get(name) is live and not self.exists(name):
                    del self._live[name]

        thread = threading.Thread(target=run, name=f"endpoint-{name}", daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _numbers(self, asked: Document, variant: Document, document: Document) -> Document:
        """What is desired of a variant from now on. Raises Refused."""
        name = asked["VariantName"]
        numbers: dict[str, Any] = {}
        if "DesiredWeight" in asked:
            numbers["DesiredWeight"] = asked["DesiredWeight"]
        if "DesiredInstanceCount" in asked:
            count = asked["DesiredInstanceCount"]
            if "CurrentServerlessConfig" in variant:
                raise invalid(f"Variant {name} is serverless: it has no DesiredInstanceCount.")
            if count == 0 and document.get("AsyncInferenceConfig") is None:
                raise invalid(
                    f"Variant {name}: only asynchronous endpoints can have no instances. "
                    "DesiredInstanceCount must be at least 1."
                )
            self._check_growth(variant, count, document)
            numbers["DesiredInstanceCount"] = count
        if "ServerlessUpdateConfig" in asked:
            if "CurrentServerlessConfig" not in variant:
                raise invalid(f"Variant {name} is not serverless: it has no concurrency.")
            config = variant["CurrentServerlessConfig"] | asked["ServerlessUpdateConfig"]
            endpoint_configs.check_concurrency(name, config)
            numbers["DesiredServerlessConfig"] = config
        return numbers

    def _check_growth(self, variant: Document, count: int, document: Document) -> None:
        configured = {v["VariantName"]: v for v in document["_Config"]["ProductionVariants"]}
        kind = configured[variant["VariantName"]]["InstanceType"]
        if count > variant["CurrentInstanceCount"]:
            growth = count - variant["CurrentInstanceCount"]
            check_instances(self._site, kind, growth, "endpoint usage")

    def _missing(self, name: str) -> Refused:
        return invalid(f'Could not find endpoint "{self._site.settings.arn(KIND, name)}".')

    def _report(self) -> None:
        while not self._ending.wait(REPORT_S):
            for live in self.running():
                live.report(self._site.aws)


def _refuse_failed(document: Document) -> None:
    if document["EndpointStatus"] == "Failed":
        raise invalid(
            f"Endpoint {document['EndpointName']} is in status Failed: it can only be deleted."
        )


def _document(name: str, arn: str, config: Document, policy: Document) -> Document:
    now = time.time()
    document = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": config["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "CreationTime": now,
        "LastModifiedTime": now,
        "PendingDeploymentSummary": endpoint_documents.pending(config),
        "_Config": config,
    }
    return document | ({"LastDeploymentConfig": policy} if policy else {})
