"""`kennel images build`: the images made from this project's Dockerfiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.text import Text

from scripts.images.docker import Docker, LocalImage
from scripts.project import Image
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.settings import Images

# Which file under docker/ makes an image, and which of its targets ("": the last).
RECIPES: dict[Image, tuple[str, str]] = {
    "train": ("train.Dockerfile", ""),
    "serve": ("serve.Dockerfile", "cpu"),
    "serve_gpu": ("serve.Dockerfile", "gpu"),
}
USUAL: tuple[Image, ...] = ("train", "serve")
INSTALLED_FROM = Path(__file__).resolve().parents[2]
INTERRUPTED = (
    "Stopped. Nothing costs money; the same command goes on after the steps that are done."
)


@dataclass(frozen=True)
class How:
    """What `docker build` is told besides; build_args as NAME=VALUE."""

    network: str = ""
    build_args: tuple[str, ...] = ()
    no_cache: bool = False


@dataclass(frozen=True)
class Built:
    """An image of this machine's engine; `name` is REPOSITORY:TAG."""

    image: Image
    name: str
    made: LocalImage


def local_name(images: Images, image: Image) -> str:
    """REPOSITORY:TAG, as this machine's engine knows it."""
    return f"{getattr(images, image)}:{images.tag}"


def build(session: Session, images: Sequence[Image] = USUAL, how: How = How()) -> list[Built]:
    """Needs no AWS. Raises Refusal."""
    docker = Docker()
    docker.check()
    folder = find_checkout(Path.cwd())
    provenance = docker.knows("build", "--provenance")
    settings = session.settings.images
    built = []
    with session.interruptible(INTERRUPTED):
        for image in dict.fromkeys(images):
            name = local_name(settings, image)
            session.console.print(f"[bold]Building[/] {name} in {escape(str(folder))}")
            arguments = build_arguments(settings, image, folder, how, provenance=provenance)
            docker.build(arguments, lambda line: session.console.print(Text(line, "dim")))
            built.append(_look(docker, settings, image))
    return built


def build_arguments(
    images: Images, image: Image, folder: Path, how: How, *, provenance: bool
) -> list[str]:
    """What follows `docker build`; `provenance` tells whether the builder knows that option."""
    file, target = RECIPES[image]
    return [
        # An image alone, not an index of an image and the story of its making.
        *(["--provenance=false"] if provenance else []),
        *("--platform", images.platform, "--progress", "plain"),
        *("--file", str(folder / "docker" / file)),
        *(["--target", target] if target else []),
        *("--tag", local_name(images, image)),
        *(["--network", how.network] if how.network else []),
        *(part for pair in how.build_args for part in ("--build-arg", pair)),
        *(["--no-cache"] if how.no_cache else []),
        str(folder),
    ]


def find_checkout(standing: Path) -> Path:
    """The folder one stands in if it has the Dockerfiles, else where kennel is installed from.
    Raises Refusal."""
    for folder in (standing, INSTALLED_FROM):
        if all((folder / "docker" / file).is_file() for file, _ in RECIPES.values()):
            return folder
    raise Refusal(
        f"No docker/train.Dockerfile and docker/serve.Dockerfile in {standing} or "
        f"{INSTALLED_FROM}. Change to the checkout of the project, which has them."
    )


def _look(docker: Docker, settings: Images, image: Image) -> Built:
    name = local_name(settings, image)
    made = docker.image(name)
    if made is None:
        raise Refusal(
            f"docker build made {name}, but the engine has no such image: its builder keeps what "
            "it makes. Choose one that does not: docker buildx use default."
        )
    return Built(image, name, made)
