"""What is alive of a project and what it costs, in a table."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.account.inventory import take_inventory
from scripts.account.kept_things import PLAIN
from scripts.account.prices import Prices, find_prices
from scripts.account.things import Folder, Inventory, Machines, Thing
from scripts.session import Session

GOOD = ("InService", "InProgress", "Completed", "OK")
BAD = ("Failed", "ALARM", "OutOfService", "UpdateRollbackFailed", "DeleteFailed")


@dataclass(frozen=True)
class Status:
    """An inventory with its prices."""

    inventory: Inventory
    prices: Prices

    @property
    def machines(self) -> list[Machines]:
        return [one for thing in self.inventory.alive for one in thing.machines]

    @property
    def usd_per_hour(self) -> float | None:
        """None if one of the prices is not known."""
        return self.prices.total(self.machines)

    def document(self) -> dict[str, Any]:
        document = self.inventory.document()
        document["things"] = [
            {
                **asdict(thing),
                "machines": [
                    {**asdict(one), "usd_per_hour": self.prices.of(one)} for one in thing.machines
                ],
                "usd_per_hour": self.prices.total(thing.machines),
            }
            for thing in self.inventory.things
        ]
        return {
            **document,
            "usd_per_hour": self.usd_per_hour,
            "price_not_known": list(self.prices.unknown),
        }


def status(session: Session, *, ended: bool = False) -> Status:
    """What is alive and kept, and what it costs; with `ended` the jobs of the past too."""
    inventory = take_inventory(session, ended=ended)
    machines = [one for thing in inventory.alive for one in thing.machines]
    return Status(inventory, find_prices(session.stack, session.project, machines))


def show_status(console: Console, status: Status, now: datetime | None = None) -> None:
    inventory, now = status.inventory, now or datetime.now(UTC)
    if not inventory.alive and not inventory.not_visible:
        console.print(f"Nothing of project '{inventory.project.name}' is alive.")
    if inventory.things:
        console.print(_table(status, now))
    if status.machines:
        _show_costs(console, status)
    for sentence in images_sentences(inventory) + data_sentences(inventory):
        console.print(escape(sentence))
    for sentence in inventory.not_visible:
        console.print(f"[yellow]{escape(sentence)}[/]")


def images_sentences(inventory: Inventory) -> list[str]:
    """One for each repository: paid by the month."""
    return [
        f"Kept: {one.images} images in ECR's {one.name}, at most {gb(one.bytes)}."
        for one in inventory.repositories
    ]


def data_sentences(inventory: Inventory) -> list[str]:
    """What lies in S3, or nothing: paid by the month."""
    data = inventory.data
    if data is None or data.all == Folder():
        return []
    folders = ", ".join(
        f"{name or 'others'} {folder.objects:,}"
        for name, folder in sorted(data.folders.items(), key=lambda item: item[0] == PLAIN)
    )
    old = f" and {data.all.old:,} old versions" if data.all.old else ""
    objects = f"{data.all.objects:,} objects{old}, {gb(data.all.bytes)}"
    return [f"Kept: {objects} in {data.uri} ({folders})."]


def gb(size: int) -> str:
    """10^9 bytes, and smaller units where there is less."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def _table(status: Status, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "state", "since (UTC)", "", "instances"):
        table.add_column(heading, overflow="fold")
    table.add_column("USD/h", justify="right")
    table.add_column("", overflow="fold")
    things = sorted(status.inventory.things, key=lambda thing: (thing.ended, thing.kind))
    for thing in things:
        instances = ", ".join(f"{one.count} × {one.instance}" for one in thing.machines)
        price = status.prices.total(thing.machines) if thing.machines else None
        table.add_row(
            thing.kind,
            escape(thing.name),
            _colored(thing),
            f"{thing.since:%Y-%m-%d %H:%M}" if thing.since else "",
            ago(now - thing.since) if thing.since else "",
            instances,
            f"{price:.3f}" if price is not None else "?" if thing.machines else "",
            escape(thing.detail),
            style="dim" if thing.ended else None,
        )
    return table


def _colored(thing: Thing) -> str:
    color = "green" if thing.state in GOOD else "red" if thing.state in BAD else "yellow"
    return f"[{color}]{escape(thing.state)}[/]" if thing.state else ""


def _show_costs(console: Console, status: Status) -> None:
    total = status.usd_per_hour
    if total is not None:
        console.print(f"All of it costs [bold]{total:.3f} USD an hour[/] by AWS's list of prices.")
    else:
        console.print("[bold]It costs money[/], but the price is not known:")
    for sentence in status.prices.unknown:
        console.print(f"  {escape(sentence)}")
    console.print("End it: kennel stop JOB, or all of it: kennel down.")


def ago(time: timedelta) -> str:
    minutes = int(time.total_seconds() // 60)
    if minutes < 60:
        return f"{max(minutes, 0)} min ago"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min ago"
    return f"{minutes // 1440} days ago"
