"""`kennel transform`: many photos in one job, without an endpoint."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from botocore.exceptions import BotoCoreError
from rich.markup import escape

from scripts.call import Call
from scripts.data.bars import counted
from scripts.data.s3_objects import Target
from scripts.data.upload import upload_files
from scripts.hosting.accuracy import Accuracy
from scripts.hosting.deploy_checks import check_environment
from scripts.hosting.endpoint_leftovers import remove_model
from scripts.hosting.endpoint_requests import model_request
from scripts.hosting.instance_types import has_gpu, image_for_transform
from scripts.hosting.last_lines import last_lines
from scripts.hosting.lost_answers import send_or_undo
from scripts.hosting.ownership import is_ours
from scripts.hosting.photo_files import Found, find_photos, shown
from scripts.hosting.trained_model import TrainedModel, find_model
from scripts.hosting.transform_outputs import Unanswered, collect, inputs_under
from scripts.hosting.transform_requests import transform_request
from scripts.jobs.find import TRANSFORM, Description, describe, find_job, has_ended
from scripts.jobs.watch import Watch
from scripts.log_lines import TRANSFORM as GROUP
from scripts.refusal import Refusal
from scripts.s3_uri import split_uri
from scripts.session import Session

OLD_DRIVER = (
    "The hosts of batch transform have GPU driver 535 at most, and the image is for CUDA 13, which "
    "asks for 580: it may not start there. A CPU type is sure: --instance ml.m5.large."
)


@dataclass(frozen=True)
class Plan:
    """`source` is the S3 prefix of the inputs, to which `folder` is uploaded first, if any."""

    name: str
    trained: TrainedModel
    source: str
    model: Call
    job: Call
    folder: Path | None = None
    photos: Found | None = None

    @property
    def calls(self) -> list[Call]:
        return [self.model, self.job]


@dataclass(frozen=True)
class Transformed:
    """A job that has ended, and what came of it. `table` is predictions.csv; what has no answer is
    in errors.csv beside it."""

    job: str
    status: str
    reason: str
    answered: int
    unanswered: list[Unanswered]
    accuracy: Accuracy | None
    table: Path
    output: str

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"table": shown(self.table)}


def transform(
    session: Session,
    source: str | Path,
    *,
    job: str | None = None,
    concurrency: int | None = None,
    out: Path | None = None,
) -> Transformed:
    """From photos in a folder or under an s3:// prefix to predictions.csv in `out` (else a folder
    named as the job). `job`: see deploy. Raises Refusal; a photo without an answer is in
    `unanswered`."""
    plan = make_plan(session, source, job, concurrency)
    check_out(out)
    start(session, plan)
    return follow(session, plan.name, out)


def make_plan(
    session: Session, source: str | Path, job: str | None, concurrency: int | None
) -> Plan:
    """Asks only. Raises Refusal."""
    stack, project = session.stack, session.project
    instance = project.settings.deploy.instance
    image = image_for_transform(project, instance)
    check_environment(project, on_gpu=has_gpu(instance))
    name = project.new_name("batch")
    uri, folder, photos = str(source), None, None
    if uri.startswith("s3://"):
        _check_source(session, uri)
    else:
        folder = Path(source)
        if not folder.is_dir():
            raise Refusal(f"{folder} is no folder. Name one with photos, or an s3:// prefix.")
        photos = find_photos([folder])
        uri = project.uri("transform", name, "input") + "/"
    trained = find_model(stack, project, job)
    # The model has the job's name, so that whoever follows the job can remove it.
    return Plan(
        name,
        trained,
        uri,
        model_request(project, name, trained.artifact, image),
        transform_request(project, name, name, uri, concurrency),
        folder,
        photos,
    )


def check_out(out: Path | None) -> None:
    """Makes the folder for the outputs, before anything is uploaded or paid. Raises Refusal."""
    folder = out or Path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refusal(
            f"No outputs can be written to the folder {folder.absolute()}: {error.strerror}. Name "
            "another: --out."
        ) from None


def start(session: Session, plan: Plan) -> None:
    """Uploads what is to be uploaded, then asks for model and job."""
    stack, console = session.stack, session.console
    if has_gpu(session.settings.deploy.instance):
        console.print(f"[yellow]{escape(OLD_DRIVER)}[/]")
    if plan.folder and plan.photos:
        with session.interruptible(f"No job was begun. What was uploaded lies under {plan.source}"):
            _upload(session, plan.folder, plan.photos, plan.source)
    with (
        session.interruptible(f"If the job was begun, stop it: kennel stop {plan.name}."),
        ExitStack() as undo,
    ):
        plan.model.send(stack)
        undo.callback(remove_model, stack, plan.name)
        send_or_undo(
            session,
            plan.job,
            undo,
            lambda: describe(stack, TRANSFORM, plan.name) is not None,
            f"the job {plan.name} may run and cost money. See it: kennel status. Stop it: kennel "
            f"stop {plan.name}.",
        )
    console.print(escape(f"The job {plan.name} asks {plan.trained} about {plan.source}"))


def follow(session: Session, name: str, out: Path | None = None) -> Transformed:
    """Waits for a job's end and brings its outputs. Raises Refusal for unknown names, and for
    outputs that can't be found or written."""
    check_out(out)
    stack = session.stack
    goes_on = (
        f"The job {name} goes on and costs money until it ends. Stop it: kennel stop {name}. Come "
        f"back to it: kennel transform --attach {name}."
    )
    with session.interruptible(goes_on):
        ended = _await_end(session, name, goes_on)
    if _made_its_model(session, ended):
        remove_model(stack, name)
    source = ended["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    output = ended["TransformOutput"]["S3OutputPath"]
    folder = out or Path(name)
    with session.progress() as progress, _bringing(name, folder):
        task = progress.add_task("reading outputs", total=None)
        collected = collect(
            stack,
            name,
            source,
            output,
            folder,
            lambda done: progress.update(task, completed=done),
        )
    if not collected.answered:
        _tell_last_lines(session, ended)
    return Transformed(
        name,
        ended["TransformJobStatus"],
        ended.get("FailureReason", ""),
        collected.answered,
        collected.unanswered,
        collected.accuracy.accuracy(),
        collected.table,
        output,
    )


def _await_end(session: Session, name: str, goes_on: str) -> Description:
    stack, watch = session.stack, Watch(session.console, goes_on)
    started, told = time.monotonic(), ""
    with session.progress() as progress:
        task = progress.add_task("", total=None)
        while True:
            _, job = watch.ask(lambda: find_job(stack, session.project, name, (TRANSFORM,)))
            _check_inputs(job)
            seconds, status = time.monotonic() - started, str(job["TransformJobStatus"])
            if status != told:
                session.console.print(f"{seconds:6.0f} s  {status}", style="dim")
            progress.update(task, description=f"{status}, {seconds:.0f} s")
            if has_ended(status):
                return job
            watch.wait(moved=status != told)
            told = status


def _check_inputs(job: Description) -> None:
    """Raises Refusal for the inputs of others' jobs that are listed elsewhere."""
    source = job["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] != "S3Prefix":
        raise Refusal(
            f"The job {job['TransformJobName']} takes its inputs from a {source['S3DataType']}, "
            f"{source['S3Uri']}; kennel transform reads outputs for an S3Prefix only. Read them "
            f"under {job['TransformOutput']['S3OutputPath']}."
        )


def _made_its_model(session: Session, job: Description) -> bool:
    """Whether `start` made the model for this job; the models of others' jobs are theirs."""
    name, project = job["TransformJobName"], session.project
    return (
        job["ModelName"] == name
        and name.startswith(f"{project.name}-batch-")
        and is_ours(session.stack, project, job["TransformJobArn"])
    )


@contextmanager
def _bringing(name: str, folder: Path) -> Iterator[None]:
    """What can't be written is said with the way back to it."""
    try:
        yield
    except BotoCoreError:  # some are OSErrors too
        raise
    except OSError as error:
        raise Refusal(
            f"The outputs of {name} can't be written to {folder.absolute()}: {error.strerror}. "
            f"They stay in S3: kennel transform --attach {name} --out FOLDER."
        ) from None


def _check_source(session: Session, uri: str) -> None:
    bucket, _ = split_uri(uri)
    if not bucket or next(inputs_under(session.stack, uri), None) is None:
        raise Refusal(f"There is nothing under {uri}. Name a prefix with photos, or a folder.")


def _upload(session: Session, folder: Path, found: Found, target: str) -> None:
    bucket, prefix = split_uri(target)
    files = {shown(photo.path.relative_to(folder)): photo.path for photo in found.photos}
    with counted(session, "uploading") as tell:
        done = upload_files(Target(session.stack, bucket, prefix.rstrip("/")), files, tell)
    session.console.print(escape(f"{done.sent} photos uploaded. {found.left_out_told()}".strip()))


def _tell_last_lines(session: Session, job: Mapping[str, Any]) -> None:
    lines = last_lines(
        session.stack, GROUP, job["CreationTime"], prefix=f"{job['TransformJobName']}/"
    )
    for line in lines:
        session.console.print(f"  {escape(line)}", style="dim")
