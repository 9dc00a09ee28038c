"""`kennel data`: photos checked, prepared, uploaded and fetched."""

import typer

from scripts.data import photo_commands, transfer_commands

data = typer.Typer(
    no_args_is_help=True, help="Photos: checked, made smaller, brought to S3, fetched."
)
photo_commands.add_to(data)
transfer_commands.add_to(data)


def add_to(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(data, name="data")
