"""`kennel data check` and `kennel data prepare`: photos looked at, and made smaller.

What looks at photos is imported by the verbs: numpy, Pillow and jinja2 would slow every other verb
and --help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from scripts.data.bars import counted
from scripts.jobs.hyperparameters import check as check_hyperparameters
from scripts.jobs.hyperparameters import texts
from scripts.session import AsJson, Session
from train.config import read_config

if TYPE_CHECKING:
    from scripts.data.findings import Limits

FINDINGS = 1  # the exit code of a check that found errors


def add_to(data: typer.Typer) -> None:
    """Adds the verbs to the group `data`."""
    data.command("check")(check_photos)
    data.command("prepare")(prepare_photos)


def check_photos(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="It holds train/, valid/ and test/.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also as one page, with the photos.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 for warnings too, not for errors only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Says what is wrong with photos before hours are spent on them: unreadable files, one picture
    in two splits or classes, classes missing or too small. Exit 1 if training would fail or its
    result would be wrong."""
    from scripts.data.check import check
    from scripts.data.check_page import write_check
    from scripts.data.check_table import show_check

    session: Session = ctx.obj.speaking(as_json)
    limits = _limits(session)
    with counted(session, "looking at photos") as tell:
        checked = check(folder, limits, tell)
    if html:
        write_check(checked, html)
    session.answer(checked.document())
    show_check(session.console, checked)
    if html:
        session.console.print(f"The page is {escape(str(html))}.")
    if checked.errors or (strict and checked.warnings):
        raise typer.Exit(FINDINGS)


def prepare_photos(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="One folder per class; or train/, valid/ and test/ with those in each."
        ),
    ],
    target: Annotated[Path, typer.Argument(help="A new folder, or one prepared before.")],
    max_side: Annotated[
        int | None, typer.Option(help="Pixels of the longer side; larger photos are made smaller.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="JPEG quality of those.")] = None,
    valid_share: Annotated[
        float | None, typer.Option(help="Of each class for valid/, unless there are splits.")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Of each class for test/, unless there are splits.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Deals the photos into splits another way.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Makes photos as small as training needs them, and splits them if they are not. Unreadable
    ones are left out and named. A second run does only what is missing or has changed; photos keep
    their split when others are added."""
    from scripts.data.making import Form
    from scripts.data.prepare import prepare
    from scripts.data.splitting import Shares
    from scripts.data.summary import show_prepared

    session: Session = ctx.obj.speaking(as_json).changed(
        "data",
        max_side=max_side,
        quality=quality,
        valid_share=valid_share,
        test_share=test_share,
    )
    settings = session.settings.data
    with counted(session, "preparing photos") as tell:
        result = prepare(
            source,
            target,
            Form(settings.max_side, settings.quality),
            Shares(settings.valid_share, settings.test_share, seed),
            tell,
        )
    session.answer(result.document())
    show_prepared(session.console, result)


def _limits(session: Session) -> "Limits":
    """Of the trainer as kennel.toml sets it. Raises Refusal."""
    from scripts.data.findings import Limits

    values = texts(session.settings.train.hyperparameters)
    check_hyperparameters(values)
    return Limits(read_config(values), session.settings.data.max_side)
