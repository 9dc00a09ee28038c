"""The command `kennel`: its verbs, and what becomes of their errors."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import scripts.account.commands
import scripts.data.commands
import scripts.hosting.commands
import scripts.images.commands
import scripts.jobs.commands
from scripts.aws_errors import sentence
from scripts.local_commands import local
from scripts.refusal import Refusal
from scripts.session import INTERRUPTED, Session
from scripts.settings_file import FILE, parse_override, read_settings
from scripts.stack import AWS_ERRORS, Stack

FAILED = 1


class Verbs(TyperGroup):
    """Errors that people can mend end in a sentence; others are ours and show their trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Refusal as error:
            typer.echo(str(error), err=True)
        except AWS_ERRORS as error:
            typer.echo(sentence(error), err=True)
        except KeyboardInterrupt:
            typer.echo("\nStopped.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class CommandLine:
    """What stands before the verb. It is read when the verb begins: a kennel.toml that is broken
    stops neither --help nor `kennel local`."""

    config: Path | None
    sets: list[str]
    region: str | None
    profile: str | None

    def speaking(self, as_json: bool) -> Session:
        """The verb's session. Raises Refusal."""
        file = self.config or (Path(FILE) if Path(FILE).exists() else None)
        settings = read_settings(file, dict(parse_override(text) for text in self.sets))
        stack = Stack(self.region or settings.aws.region or None, self.profile)
        return Session(settings, self.profile, as_json, stack)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Trains, tunes, debugs, profiles and hosts image classifiers on SageMaker: on AWS, or on "
    'this machine (`kennel local up --background`, then `eval "$(kennel local env)"`).',
    epilog="Exit codes: 0 done; 1 failed or refused, with the sentence on stderr; 2 the command "
    "line is wrong; 130 Ctrl-C.",
)
for verbs in (
    scripts.data.commands,
    scripts.images.commands,
    scripts.jobs.commands,
    scripts.hosting.commands,
    scripts.account.commands,
):
    verbs.add_to(app)
app.add_typer(local, name="local")


@app.callback()
def kennel(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar="KENNEL_CONFIG", help=f"Settings; else {FILE} of this folder."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help=f"In place of a value of {FILE}."),
    ] = None,
    region: Annotated[
        str | None,
        # boto3 itself knows only AWS_DEFAULT_REGION; AWS's other tools know this one too.
        typer.Option(envvar="AWS_REGION", help="AWS region; it wins over aws.region."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(envvar="AWS_PROFILE", help="Profile of AWS's configuration.")
    ] = None,
) -> None:
    ctx.obj = CommandLine(config, sets or [], region, profile)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where it is not UTF-8 (cron's, for example), a ★ must not end a verb half-way.
            stream.reconfigure(errors="replace")
    app()


if __name__ == "__main__":
    main()
