"""`kennel data upload` and `kennel data fetch`: photos to S3, and data sets to this machine."""

from pathlib import Path
from typing import Annotated

import typer

from scripts.data.fetch import fetch
from scripts.data.upload import upload_calls, upload_photos, upload_weights
from scripts.refusal import Refusal
from scripts.session import AsJson, DryRun, Session


def add_to(data: typer.Typer) -> None:
    """Adds the verbs to the group `data`."""
    data.command("upload")(upload_data)
    data.command("fetch")(fetch_data)


def upload_data(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Holds train/, valid/ and test/, each with one folder per class."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="First weights, also or instead: to NAME/pretrained."),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete photos in S3 that have no file in FOLDER (any more)."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Brings photos and weights to the project's bucket, which is made, private, if it is missing.

    Only what S3 does not hold yet is sent, told by content; so run it again after Ctrl-C, or when
    photos have changed. Files that training ignores stay here.
    """
    session: Session = ctx.obj.speaking(as_json)
    if folder is None and weights is None:
        raise Refusal("Name the folder of your photos, or --weights FILE, or both.")
    if folder is None and delete:
        raise Refusal("--delete is for photos: name their folder.")
    if dry_run:
        session.show(upload_calls(session, folder, weights, delete=delete))
        return
    photos = upload_photos(session, folder, delete=delete).document() if folder else {}
    first = upload_weights(session, weights).document() if weights else None
    session.answer({**photos, "weights": first})


def fetch_data(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="A zip or tar archive: https://…, or a file here.",
            show_default="data.url",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to unpack it.", show_default="the archive's name"
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="It must have this SHA-256.", show_default="data.sha256"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetches a data set and unpacks it. Needs no AWS.

    A download that broke off goes on where it was; what is there already is not fetched again.
    """
    session: Session = ctx.obj.speaking(as_json)
    session.answer(fetch(session, url, to, sha256).document())
