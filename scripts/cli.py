"""The command `kennel`."""

import typer

from scripts.local_commands import local

app = typer.Typer(
    no_args_is_help=True,
    help="Trains, tunes, hosts and debugs image classifiers on SageMaker, on AWS or here.",
    pretty_exceptions_enable=False,
)
app.add_typer(local, name="local")


@app.callback()
def kennel() -> None:
    """Keeps the groups of verbs, however few they are."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
