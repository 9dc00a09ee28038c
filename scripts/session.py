"""What every verb has at hand: kennel.toml, AWS's clients, and how it speaks."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.call import Call, shown
from scripts.project import Project, find_project
from scripts.settings import Settings
from scripts.settings_file import changed
from scripts.stack import Stack

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the requests as JSON for `aws … --cli-input-json`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
INTERRUPTED = 130


@dataclass(frozen=True)
class Session:
    """People read stdout; with `as_json` the one document is there and all else on stderr."""

    settings: Settings
    profile: str | None = None
    as_json: bool = False
    stack: Stack = field(default_factory=Stack)

    @cached_property
    def project(self) -> Project:
        return find_project(self.settings, self.stack)

    @cached_property
    def console(self) -> Console:
        return Console(highlight=False, soft_wrap=True, file=sys.stderr if self.as_json else None)

    def progress(self) -> Progress:
        """A bar while a person watches; nothing where nobody does."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def speaking(self, as_json: bool) -> "Session":
        return replace(self, as_json=as_json)

    def changed(self, section: str, **values: Any) -> "Session":
        """With a verb's flags in place of kennel.toml's values; None leaves one as it is."""
        return replace(self, settings=changed(self.settings, section, **values))

    def answer(self, document: Mapping[str, Any] | Sequence[Any]) -> None:
        """The one JSON document of --json; nothing without it."""
        if self.as_json:
            text = json.dumps(document, indent=2, default=str, ensure_ascii=False)
            # Bytes, since JSON is UTF-8 whatever stdout is; names of files may not be text at all.
            typer.echo(text.encode("utf-8", "replace"))

    def show(self, calls: Sequence[Call]) -> None:
        """What --dry-run prints."""
        typer.echo(shown(calls))

    @contextlib.contextmanager
    def interruptible(self, sentence: str) -> Iterator[None]:
        """Ctrl-C inside says what goes on running and costing money, and how to stop it."""
        try:
            yield
        except KeyboardInterrupt:
            self.console.print(f"\n[yellow]{sentence}[/]")
            raise typer.Exit(INTERRUPTED) from None
