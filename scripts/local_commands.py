"""`kennel local`: the SageMaker on this machine, started, looked at and ended."""

import json
import logging
import shlex
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from local.background import (
    NotRunning,
    NotStarted,
    ask,
    end,
    endpoint_variables,
    start,
    state_of,
)
from local.settings import LocalSettings, default_home

local = typer.Typer(no_args_is_help=True, help="A SageMaker on this machine that runs the jobs.")
LEADING_ELSEWHERE = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_LOGS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
console = Console(highlight=False, soft_wrap=True)

Home = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="KENNEL_HOME",
        default_factory=default_home,
        show_default="~/.kennel",
        help=str(LocalSettings.model_fields["home"].description),
    ),
]


def _option(field: str) -> Any:
    return typer.Option(help=LocalSettings.model_fields[field].description)


def _default(field: str) -> Any:
    return LocalSettings.model_fields[field].default


@local.command()
def up(
    home: Home,
    background: Annotated[
        bool, typer.Option("--background", help="Return once it is ready; `down` ends it.")
    ] = False,
    host: Annotated[str, _option("host")] = _default("host"),
    port: Annotated[int, _option("port")] = _default("port"),
    aws_port: Annotated[int, _option("aws_port")] = _default("aws_port"),
    runner: Annotated[str, _option("runner")] = _default("runner"),
    region: Annotated[str, _option("region")] = _default("region"),
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER",
            help="For the process runner: an image's name and the folder with its programs "
            "`train` and `serve`. kennel-train and kennel-serve are there already.",
        ),
    ] = None,
) -> None:
    """Starts it: SageMaker on one port, S3, ECR, STS, IAM, CloudWatch and Logs on another."""
    settings = LocalSettings.model_validate(
        {
            "home": home.resolve(),
            "host": host,
            "port": port,
            "aws_port": aws_port,
            "runner": _one_of(runner, "auto", "docker", "process"),
            "region": region,
            "images": dict(_image(each) for each in image or []),
        }
    )
    if background:
        _start_in_background(settings)
        return

    # Imported only now: it takes its time, and the other verbs need none of it.
    from local.server import CannotStart, run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        run(settings)
    except CannotStart as error:
        _leave(str(error))


@local.command()
def down(home: Home) -> None:
    """Ends it with all its containers and processes. What it keeps stays in KENNEL_HOME."""
    try:
        killed = end(home.resolve())
    except NotRunning as error:
        _leave(str(error))
    console.print("The local SageMaker has ended." + (f" {killed} left over." if killed else ""))


@local.command()
def status(
    home: Home,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Where it listens, what runs the containers, and what is alive."""
    try:
        found = ask(home.resolve(), "GET", "/kennel/status")
    except NotRunning as error:
        _leave(str(error))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    since = timedelta(seconds=round(time.time() - found["started"]))
    rows = {
        "SageMaker": found["url"],
        "AWS": f"{found['aws_url']}  (S3, ECR, STS, IAM, CloudWatch, Logs)",
        "runner": f"{found['runner']}: {found['runner_description']}",
        "home": found["home"],
        "running": f"{since} (pid {found['pid']})",
        **{kind: ", ".join(names) for kind, names in found["alive"].items() if names},
    }
    for name, value in rows.items():
        console.print(f"[dim]{name:<16}[/] {escape(str(value))}")


@local.command()
def env(home: Home) -> None:
    """Prints what leads AWS's SDKs here: eval "$(kennel local env)"."""
    try:
        state = state_of(home.resolve())
    except NotRunning as error:
        _leave(str(error))
    typer.echo(f"unset {' '.join(LEADING_ELSEWHERE)}")
    typer.echo('export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"')
    for name, value in endpoint_variables(state).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@local.command()
def interrupt(
    job: Annotated[str, typer.Argument(help="A training job's name.")], home: Home
) -> None:
    """Takes the spot instance of a training job away, as AWS may at any time."""
    try:
        ask(home.resolve(), "POST", f"/kennel/interrupt/{job}")
    except NotRunning as error:
        _leave(str(error))
    console.print(f"{escape(job)} is being interrupted; it starts again by itself.")


def _start_in_background(settings: LocalSettings) -> None:
    try:
        state = start(settings)
    except NotStarted as error:
        _leave(str(error))
    console.print(f"SageMaker  {state['url']}")
    console.print(f"AWS        {state['aws_url']}")
    console.print(f"Runner     {escape(state['runner_description'])}")
    console.print('Now:       eval "$(kennel local env)"')


def _image(option: str) -> tuple[str, Path]:
    name, separator, folder = option.partition("=")
    path = Path(folder).expanduser().resolve()
    if not separator or not name or not path.is_dir():
        raise typer.BadParameter(f"--image {option}: write NAME=FOLDER, with a folder that exists.")
    return name, path


def _one_of(value: str, *allowed: str) -> str:
    if value not in allowed:
        raise typer.BadParameter(f"--runner {value}: one of {', '.join(allowed)}.")
    return value


def _leave(sentence: str) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
