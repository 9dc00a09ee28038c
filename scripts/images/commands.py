"""`kennel images`: built and pushed."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from scripts.call import shown
from scripts.images.build import Built, How, build
from scripts.images.push import Pushed, findings_command, push
from scripts.images.repository import repository_requests
from scripts.project import Image
from scripts.session import AsJson, DryRun, Session

images = typer.Typer(no_args_is_help=True, help="The images: built on this machine, pushed to ECR.")


class Choice(StrEnum):
    TRAIN = "train"
    SERVE = "serve"
    SERVE_GPU = "serve-gpu"


MEANT: dict[Choice, Image] = {
    Choice.TRAIN: "train",
    Choice.SERVE: "serve",
    Choice.SERVE_GPU: "serve_gpu",
}
Chosen = Annotated[
    list[Choice] | None,
    typer.Argument(metavar="IMAGE", help="train, serve, serve-gpu.", show_default="train serve"),
]


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(images, name="images")


@images.command("build")
def build_images(
    ctx: typer.Context,
    which: Chosen = None,
    network: Annotated[
        str, typer.Option(help="Network of the build's steps; host: this machine's own.")
    ] = "",
    build_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Such as PYTHON_IMAGE=python@sha256:…"),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Every step anew.")] = False,
    as_json: AsJson = False,
) -> None:
    """Builds the images with Docker, named as kennel.toml says in its part images. Needs no AWS."""
    session: Session = ctx.obj.speaking(as_json)
    built = build(session, _meant(which), How(network, tuple(build_arg or ()), no_cache))
    for each in built:
        _tell_built(session, each)
    session.answer(
        [{"image": each.image, "name": each.name, **asdict(each.made)} for each in built]
    )


@images.command("push")
def push_images(
    ctx: typer.Context,
    which: Chosen = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Pushes them to ECR, whose repositories it makes; jobs then name them by their digests.

    What is missing, larger than images.max_gb or not of images.platform is refused beforehand.
    """
    session: Session = ctx.obj.speaking(as_json)
    if dry_run:
        _show(session, _meant(which))
        return
    pushed = push(session, _meant(which))
    for each in pushed:
        _tell_pushed(session, each)
    session.answer([{**asdict(each), "digest": each.digest} for each in pushed])


def _meant(which: list[Choice] | None) -> list[Image]:
    return [MEANT[choice] for choice in which or (Choice.TRAIN, Choice.SERVE)]


def _show(session: Session, images: list[Image]) -> None:
    """By repository, for each takes the same requests."""
    repositories = [session.project.repository(image) for image in dict.fromkeys(images)]
    requests = {
        name: json.loads(shown(repository_requests(session.project, name))) for name in repositories
    }
    typer.echo(json.dumps(requests, indent=2))


def _tell_built(session: Session, built: Built) -> None:
    made = built.made
    session.console.print(
        f"[bold]{escape(built.name)}[/]  {made.gb:.2f} GB  {made.platform}  {made.id}"
    )


def _tell_pushed(session: Session, pushed: Pushed) -> None:
    say = session.console.print
    news = (
        f"{pushed.sent_layers} of {pushed.layers} layers sent"
        if pushed.changed
        else "nothing new: it was there already"
    )
    say(f"[bold]{escape(pushed.by_digest)}[/]  {news}")
    if pushed.known_to_ecr:
        command = findings_command(session.project, pushed)
        say(f"[dim]What its scan finds, in a minute:[/] {escape(command)}")
    else:
        say(
            f"ECR does not know it: {escape(session.project.registry)} (images.registry) holds it "
            "in ECR's place, and the digest is that registry's."
        )
