"""What an instance costs by the hour, as AWS's price list tells it; never a guess.

The list's attributes (regionCode, instanceName, platoinstancetype, productFamily) are in no
documentation of AWS. They are those of its public file offers/v1.0/aws/AmazonSageMaker, which
ec2instances.info and AWS's own examples read the same way.
"""

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scripts.account.things import Machines
from scripts.aws_errors import sentence
from scripts.call import Call
from scripts.data.parallel import in_parallel
from scripts.project import Project
from scripts.stack import Stack

CACHE = Path(".kennel") / "prices.json"
FRESH = timedelta(days=7)
LIST_REGION = "us-east-1"  # of the list itself, whatever region is asked about
THREADS = 8


@dataclass(frozen=True)
class Prices:
    """USD an hour and instance, by what they are of; `unknown`: sentences why others are not."""

    usd: Mapping[str, float] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    def of(self, machines: Machines) -> float | None:
        """Of all its instances together; None if it is not known."""
        price = self.usd.get(_key(machines))
        return None if price is None else price * machines.count

    def total(self, machines: Collection[Machines]) -> float | None:
        """None if one of them is not known."""
        known = [price for one in machines if (price := self.of(one)) is not None]
        return sum(known) if len(known) == len(machines) else None


def price_request(region: str, machines: Machines) -> Call:
    wanted = {
        "productFamily": "ML Instance",
        "regionCode": region,
        "instanceName": machines.instance,
        "platoinstancetype": machines.use,
    }
    filters = [{"Type": "TERM_MATCH", "Field": n, "Value": v} for n, v in wanted.items()]
    return Call("pricing", "GetProducts", {"ServiceCode": "AmazonSageMaker", "Filters": filters})


def find_prices(
    stack: Stack, project: Project, machines: Collection[Machines], now: datetime | None = None
) -> Prices:
    """Each is asked once a week; answers are kept in .kennel/prices.json."""
    now = now or datetime.now(UTC)
    kept = _read(now)
    known = kept.get(project.region, {})
    usd = {key: entry["usd"] for key, entry in known.items()}
    wanted = {_key(one): one for one in machines if _key(one) not in usd}
    asked = {key: one for key, one in wanted.items() if one.use}
    unknown = [f"{key}: what AWS asks for it now is in no list." for key in wanted.keys() - asked]
    if project.partition != "aws":
        return Prices(
            usd, [*unknown, *(f"{key}: no price list of {project.partition}." for key in asked)]
        )

    def ask(one: Machines) -> float | str:
        return _ask(stack, project.region, one)

    found = dict(zip(asked, in_parallel(ask, asked.values(), THREADS), strict=True))
    new = {key: price for key, price in found.items() if isinstance(price, float)}
    failures = dict.fromkeys(why for why in found.values() if isinstance(why, str))
    if new:
        entries = {key: {"usd": usd, "asked": now.isoformat()} for key, usd in new.items()}
        try:
            _write({**kept, project.region: {**known, **entries}})
        except OSError as error:
            told = f"{CACHE} can't be written ({error.strerror}): prices are asked again next time."
            failures[told] = None
    return Prices({**usd, **new}, [*unknown, *failures])


def _key(machines: Machines) -> str:
    return f"{machines.instance} {machines.use or 'on spot'}"


def _ask(stack: Stack, region: str, machines: Machines) -> float | str:
    """USD, or why it is not known."""
    request = price_request(region, machines).request
    try:
        answer = stack.client("pricing", LIST_REGION).get_products(**request)
    except (BotoCoreError, ClientError) as error:
        return sentence(error)
    prices = {price for product in answer["PriceList"] for price in _hourly(json.loads(product))}
    if len(prices) != 1:
        told = "several prices" if prices else "no price"
        return f"{_key(machines)}: AWS's price list has {told} for {region}."
    return prices.pop()


def _hourly(product: dict[str, Any]) -> Iterator[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = float(dimension["pricePerUnit"].get("USD", 0))
            # Free tiers have their own entries, which cost nothing.
            if dimension["unit"].lower() in ("hrs", "hours", "hour") and price > 0:
                yield price


def _read(now: datetime) -> dict[str, dict[str, Any]]:
    """What was asked less than a week ago; a file that is no such list is made anew."""
    try:
        kept = json.loads(CACHE.read_text(encoding="utf-8"))
        return {
            region: {
                key: {"usd": float(entry["usd"]), "asked": entry["asked"]}
                for key, entry in entries.items()
                if now - datetime.fromisoformat(entry["asked"]) < FRESH
            }
            for region, entries in kept.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _write(kept: Mapping[str, Any]) -> None:
    """Whole or not at all, for two commands may write at once."""
    CACHE.parent.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=CACHE.parent, prefix=f".{CACHE.name}")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=2)
        os.replace(temporary, CACHE)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
