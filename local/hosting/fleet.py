"""The containers of an endpoint configuration, and the choice of one of them for a request."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from local.hosting.serving import Server
from local.runtime.capture import open_capture
from local.runtime.upstream import Upstream
from local.store import Document

ANY_NUMBER = 1 << 30  # of outstanding requests


@dataclass(eq=False)
class Instance:
    """One container that serves a variant."""

    id: str
    server: Server
    upstream: Upstream
    outstanding: int = 0  # requests it has not yet answered
    missed_pings: int = 0
    replacing: bool = False


class Variant:
    """A variant's containers; changed by its endpoint only, under the endpoint's lock."""

    def __init__(self, settings: Document, model: Document) -> None:
        self.name: str = settings["VariantName"]
        self.settings, self.model = settings, model
        self.weight: float = settings["InitialVariantWeight"]
        self.instances: tuple[Instance, ...] = ()
        routing = settings.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM")
        self._least_outstanding = routing == "LEAST_OUTSTANDING_REQUESTS"

    def choose(self, most: int) -> Instance | None:
        """None if it has no container with less than so many outstanding requests."""
        # One that is being replaced may still answer: better than to have nobody.
        able = [i for i in self.instances if not i.replacing] or self.instances
        able = [instance for instance in able if instance.outstanding < most]
        if not able:
            return None
        if self._least_outstanding:
            least = min(instance.outstanding for instance in able)
            able = [instance for instance in able if instance.outstanding == least]
        return random.choice(able)


class Fleet:
    """All variants of one endpoint configuration, and what of their answers is captured."""

    def __init__(self, endpoint: str, config: Document) -> None:
        self.config_name: str = config["EndpointConfigName"]
        self.capture = open_capture(endpoint, config)
        self.variants = {
            settings["VariantName"]: Variant(settings, config["_Models"][settings["ModelName"]])
            for settings in config["ProductionVariants"]
        }

    def choose(self) -> Variant | None:
        """By weight; None if no variant has any."""
        variants = list(self.variants.values())
        if len(variants) == 1:
            return variants[0]
        weights = [variant.weight for variant in variants]
        return random.choices(variants, weights)[0] if sum(weights) > 0 else None

    @property
    def instances(self) -> list[Instance]:
        return [instance for variant in self.variants.values() for instance in variant.instances]


def count(settings: Document) -> int:
    """Containers of a variant: a serverless one has a single one that always runs."""
    return 1 if "ServerlessConfig" in settings else int(settings["InitialInstanceCount"])


@dataclass(frozen=True)
class Place:
    """Where one request goes."""

    fleet: Fleet
    variant: str
    instance: Instance


class NoPlace(Exception):
    """No container may take the request; the sentence says why."""


class Routes:
    """To which fleets an endpoint's requests go, in which shares."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares: tuple[tuple[float, Fleet], ...] = ()

    def set(self, *shares: tuple[float, Fleet]) -> None:
        """From now on no new request goes to any other fleet."""
        with self._lock:
            self._shares = shares

    @property
    def fleets(self) -> list[Fleet]:
        return [fleet for _, fleet in self._shares]

    def take(self, target: str | None, most: int = ANY_NUMBER) -> Place:
        """A place in a container with less than so many requests, to be given back. Raises
        NoPlace."""
        with self._lock:
            fleet = self._choose(target)
            variant = fleet.variants.get(target) if target else fleet.choose()
            if variant is None:
                raise NoPlace(
                    f"Variant {target} not found. The endpoint has the variants "
                    f"{', '.join(fleet.variants)}."
                    if target
                    else "All variants have the weight 0. Name a TargetVariant."
                )
            instance = variant.choose(most)
            if instance is None:
                raise NoPlace(f"Variant {variant.name} has no capacity to process this request.")
            instance.outstanding += 1
        return Place(fleet, variant.name, instance)

    def give_back(self, place: Place) -> None:
        with self._lock:
            place.instance.outstanding -= 1

    def weigh(self, variant: Variant, weight: float) -> None:
        with self._lock:
            variant.weight = weight

    def add(self, variant: Variant, instances: Sequence[Instance]) -> None:
        with self._lock:
            variant.instances = (*variant.instances, *instances)

    def remove(self, variant: Variant, number: int) -> list[Instance]:
        """So many of a variant's containers, the idlest, which get no new requests."""
        with self._lock:
            idlest = sorted(variant.instances, key=lambda instance: instance.outstanding)
            removed = idlest[:number]
            variant.instances = tuple(i for i in variant.instances if i not in removed)
        return removed

    def holds(self, fleet: Fleet, variant: Variant, instance: Instance) -> bool:
        return fleet in self.fleets and instance in variant.instances

    def replace(self, fleet: Fleet, variant: Variant, broken: Instance, new: Instance) -> bool:
        """False if the broken one is no longer there, so that nobody needs the new one."""
        with self._lock:
            if not self.holds(fleet, variant, broken):
                return False
            variant.instances = tuple(new if i is broken else i for i in variant.instances)
            return True

    def _choose(self, target: str | None) -> Fleet:
        if not self._shares:
            raise NoPlace("It has no containers.")
        able = [pair for pair in self._shares if not target or target in pair[1].variants]
        shares = able or self._shares
        if len(shares) == 1:
            return shares[0][1]
        weights = [share for share, _ in shares]
        return random.choices([fleet for _, fleet in shares], weights)[0]
