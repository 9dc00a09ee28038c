"""`kennel images push`: checked, pushed to ECR, and from then on named by digest."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.markup import escape
from rich.text import Text

from scripts.images.build import USUAL, local_name
from scripts.images.docker import SENT, Docker, LocalImage, Push
from scripts.images.repository import find_access, has_image, prepare_repository
from scripts.project import PUSHED, Image, Project
from scripts.refusal import Refusal
from scripts.session import Session
from scripts.settings import Images

INTERRUPTED = (
    "Stopped. Nothing runs on. Layers that arrived stay in the registry, and the same command goes "
    "on after them."
)


@dataclass(frozen=True)
class Pushed:
    """`name` is REGISTRY/REPOSITORY:TAG, `by_digest` REGISTRY/REPOSITORY@sha256:… of the same.
    `changed`: it is another than the last push from this folder, or new layers were sent."""

    image: Image
    name: str
    by_digest: str
    layers: int
    sent_layers: int
    changed: bool
    known_to_ecr: bool

    @property
    def digest(self) -> str:
        return self.by_digest.partition("@")[2]


def push(session: Session, images: Sequence[Image] = USUAL) -> list[Pushed]:
    """All images are checked before the first request to AWS. Raises Refusal."""
    settings = session.settings.images
    images = list(dict.fromkeys(images))
    docker = Docker()
    docker.check()
    for image in images:
        check_image(settings, image, docker.image(local_name(settings, image)))
    project = session.project
    check_record(project)
    access = find_access(session.stack, project)
    with (
        session.interruptible(INTERRUPTED),
        docker.logged_in(project.registry, access.user, access.password) as docker,
    ):
        return [_push_one(session, docker, project, image) for image in images]


def check_image(images: Images, image: Image, found: LocalImage | None) -> None:
    """Raises Refusal for one that is missing, too large, or of another processor."""
    name = local_name(images, image)
    verb = f"kennel images build {image.replace('_', '-')}"
    if found is None:
        raise Refusal(f"This machine's Docker engine has no image {name}. Build it: {verb}.")
    if found.platform != images.platform:
        raise Refusal(
            f"{name} is for {found.platform}, but images.platform is {images.platform}. Build it "
            f"for that: {verb}; or change images.platform."
        )
    if found.gb > images.max_gb:
        raise Refusal(
            f"{name} has {found.gb:.3g} GB unpacked; the limit is {images.max_gb:g} GB "
            f"(images.max_gb). See what is large: docker history {name}; or raise the limit."
        )


def check_record(project: Project) -> None:
    """Raises Refusal, while nothing is sent yet, if record() would."""
    _ = project.pushed
    try:
        PUSHED.parent.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=PUSHED.parent).close()
    except OSError as error:
        raise Refusal(
            f"{PUSHED}, which is to hold the image's name, can't be written ({error.strerror}). "
            "Make its folder writable, or push from another."
        ) from None


def record(project: Project, name: str, by_digest: str) -> None:
    """Has jobs and models from this folder name the image by its digest. Raises Refusal."""
    known = {**replace(project).pushed, name: by_digest}  # a new value reads the file anew
    try:
        _write(json.dumps(known, indent=2, sort_keys=True))
    except OSError as error:
        raise Refusal(
            f"{name} was pushed, but {PUSHED} can't be written ({error.strerror}), so that jobs "
            "would not use it. Make room or the folder writable, and push again: nothing is sent "
            "twice."
        ) from None
    project.pushed.update(known)


def findings_command(project: Project, pushed: Pushed) -> str:
    """What shows the vulnerabilities that ECR's scan has found."""
    return (
        f"aws ecr describe-image-scan-findings --region {project.region} --repository-name "
        f"{project.repository(pushed.image)} --image-id imageDigest={pushed.digest}"
    )


def _write(text: str) -> None:
    """PUSHED, under a temporary name first."""
    PUSHED.parent.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=PUSHED.parent, prefix=f".{PUSHED.name}")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, PUSHED)
    except BaseException:
        os.unlink(temporary)
        raise


def _push_one(session: Session, docker: Docker, project: Project, image: Image) -> Pushed:
    repository = project.repository(image)
    for sentence in prepare_repository(session.stack, project, repository):
        session.console.print(escape(sentence))
    name = f"{project.registry}/{repository}:{project.settings.images.tag}"
    docker.tag(local_name(project.settings.images, image), name)
    told = _follow(session, docker, name)
    by_digest = f"{project.registry}/{repository}@{told.digest}"
    known = has_image(session.stack, repository, told.digest)
    if not known and not project.settings.images.registry:
        raise Refusal(
            f"{name} was pushed, but ECR has no image {told.digest} in {repository} of "
            f"{project.region}. See what it has: aws ecr describe-images --repository-name "
            f"{repository}; then push again."
        )
    changed = bool(told.sent) or project.pushed.get(name) != by_digest
    record(project, name, by_digest)
    layers = len(told.begun)
    return Pushed(image, name, by_digest, layers, len(told.sent), changed, known)


def _follow(session: Session, docker: Docker, name: str) -> Push:
    session.console.print(f"[bold]Pushing[/] {escape(name)}")
    with session.progress() as progress:
        bar = progress.add_task("layers", total=None)

        def tell(push: Push, line: str) -> None:
            done = len(push.sent | push.there)
            progress.update(bar, completed=done, total=len(push.begun) or None)
            if line.endswith(f": {SENT}"):
                session.console.print(Text(line, "dim"))

        return docker.push(name, tell)
