"""One transform job from its first second to its last: containers, objects, outputs."""

import logging
import shutil
import threading
import time
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import NotUploaded, split_uri
from local.hosting import serving
from local.hosting.serving import NotServing, Server
from local.logs import Stream
from local.runners.runner import SERVING_GRACE_S
from local.site import Site
from local.store import Document
from local.training import channels, states, tree
from local.training.channels import BadChannel
from local.training.cluster import ABANDON_GRACE_S, LOOK_S, Orders
from local.transform.client import STRATEGIES, ModelClient, NoAnswer, Parameters, decide
from local.transform.objects import GivenUp, Input, Objects
from local.transform.splitting import BadObject
from local.transform.tally import SEE_LOGS, Tally, say

log = logging.getLogger("local")

KIND = "transform-job"
GROUP = "/aws/sagemaker/TransformJobs"
ABANDONED = (
    "The local SageMaker was shut down while this job was running. The outputs of the objects it "
    "had finished are there."
)
# Of one container: more objects than this are not read side by side, whatever the parameters.
OBJECTS_AT_ONCE = 64


class JobFailed(Exception):
    """The job ends as Failed; the message is its FailureReason."""


class TransformRun:
    """Runs a job in threads of its own."""

    def __init__(self, site: Site, job: Document, model: Document) -> None:
        self._site, self._job, self._model = site, job, model
        self.name: str = job["TransformJobName"]
        # Names of jobs have no dot: no other kind of job has this folder.
        self._folder = site.settings.jobs / f"{self.name}.transform"
        self._orders = Orders()
        self._lock = threading.Lock()
        self._inputs: deque[Input] = deque()
        self._servers: list[Server] = []
        self._tally = Tally()
        self._error = ""  # what ended all of the job, whatever became of its objects
        self._done = threading.Event()

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    def start(self) -> None:
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Whether the job has ended by then."""
        return self._done.wait(timeout_s)

    def stop(self) -> None:
        self._orders.give("Stopped")

    def abandon(self) -> None:
        """Ends it quickly, because the server ends."""
        self._orders.give("Abandoned")

    def _run(self) -> None:
        try:
            self._check_output()
            self._find_inputs()
            self._folder.mkdir(parents=True)
            self._site.store.update(KIND, self.name, TransformStartTime=time.time())
            self._work()
            self._finish(*self._outcome())
        except JobFailed as error:
            self._finish("Failed", str(error))
        except Exception as error:  # whatever it is, the job must not stay in progress for ever
            log.exception("Transform job %s", self.name)
            self._finish("Failed", states.reason("InternalServerError", repr(error)))
        finally:
            # Only after the end is told: not every container heeds SIGTERM at once.
            self._stop_servers()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._done.set()

    def _check_output(self) -> None:
        bucket, _ = split_uri(self._job["TransformOutput"]["S3OutputPath"])
        if not self._site.objects.has_bucket(bucket):
            text = f"Data upload failed:the bucket '{bucket}' of TransformOutput does not exist"
            raise JobFailed(states.reason("ClientError", text))

    def _find_inputs(self) -> None:
        """All of them before the first output, which may come to lie among them."""
        source = self._job["TransformInput"]["DataSource"]["S3DataSource"]
        try:
            for found in channels.named(source, self._site.objects):
                self._inputs.append(Input(found.bucket, found.stored.key, str(found.path)))
        except BadChannel as error:
            raise JobFailed(states.reason("ClientError", str(error))) from None

    def _work(self) -> None:
        count = self._job["TransformResources"]["InstanceCount"]
        threads = [threading.Thread(target=self._instance, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(LOOK_S)
            if self._orders.why:
                self._stop_servers()

    def _outcome(self) -> tuple[str, str | None]:
        """The job's last status and, if it failed, the reason."""
        why = self._orders.why
        if why == "Stopped":
            return "Stopped", None
        if why == "Abandoned":
            return "Failed", states.reason("InternalServerError", ABANDONED)
        reason = self._error or self._tally.reason()
        return ("Failed", reason) if reason else ("Completed", None)

    def _instance(self, number: int) -> None:
        """One container and all it has to do."""
        try:
            self._serve(number)
        except JobFailed as error:
            self._fail(str(error))
        except NotServing as error:
            self._fail(states.reason("ClientError", str(error)))
        except (NotUploaded, BotoCoreError, ClientError) as error:
            self._fail(states.reason("ClientError", f"Data upload failed:{error}"))
        except Exception as error:  # a job whose thread just ends would look completed
            log.exception("Transform job %s", self.name)
            self._fail(states.reason("InternalServerError", repr(error)))

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._error = self._error or reason
        self._orders.give("Failed")

    def _serve(self, number: int) -> None:
        stream = f"{self.name}/i-{uuid.uuid4().hex[:17]}-{int(time.time())}"
        server = serving.start(
            self._site,
            self._model,
            name=f"{self._folder.name}.{number}",
            variant=self.name,
            log_group=GROUP,
            log_stream=stream,
            environment=_environment(self._job),
            gpus=tree.has_gpus(self._job["TransformResources"]["InstanceType"]),
        )
        with self._lock:
            self._servers.append(server)
        data_log = self._site.logs.open(GROUP, f"{stream}/data-log")
        client = ModelClient(
            server.address, self._job, lambda: bool(self._orders.why) or server.ended is not None
        )
        try:
            self._await(server)
            parameters = self._parameters(client, data_log)
            self._transform_all(server, client, parameters, data_log)
        except GivenUp:
            pass  # whoever gave the order knows
        finally:
            client.close()
            self._site.logs.close(data_log)

    def _await(self, server: Server) -> None:
        try:
            server.wait_healthy(serving.STARTUP_S)
        except NotServing:
            if self._orders.why:
                raise GivenUp from None
            text = f"{SEE_LOGS}. The container did not pass the ping health check. {server.told()}"
            raise JobFailed(states.reason("AlgorithmError", text)) from None

    def _parameters(self, client: ModelClient, data_log: Stream) -> Parameters:
        try:
            offered = client.parameters()
        except NoAnswer as error:
            say(data_log, str(error))
            offered = {}
        parameters = decide(self._job, offered)
        say(data_log, str(parameters))
        return parameters

    def _transform_all(
        self, server: Server, client: ModelClient, parameters: Parameters, data_log: Stream
    ) -> None:
        objects = Objects(
            self._site, self._job, client, parameters, self._folder, lambda: bool(self._orders.why)
        )

        def transform_next(_: None) -> None:
            while source := self._next():
                self._transform(objects, source, server, data_log)

        count = min(parameters.concurrent, OBJECTS_AT_ONCE)
        try:
            with ThreadPoolExecutor(count, thread_name_prefix="objects") as threads:
                list(threads.map(transform_next, repeat(None, count)))
        finally:
            objects.close()

    def _next(self) -> Input | None:
        """An object that no container has had yet."""
        with self._lock:
            return self._inputs.popleft() if self._inputs and not self._orders.why else None

    def _transform(self, objects: Objects, source: Input, server: Server, data_log: Stream) -> None:
        where = f"{source.bucket}/{source.key}"
        try:
            objects.transform(source)
        except NoAnswer as error:
            if self._orders.why:
                raise GivenUp from None
            if server.ended is not None:
                text = f"{SEE_LOGS}. {where}: {error}. {server.told()}"
                raise JobFailed(states.reason("AlgorithmError", text)) from None
            self._tally.failed(error.kind, f"{where}: {error}")
            say(data_log, f"{where}: {error.what}")
            for line in ("", "Message:", *error.said.splitlines()):
                say(data_log, f"{where}: {line}")
        except BadObject as error:
            self._tally.failed("ClientError", f"{where}: {error}")
            say(data_log, f"{where}: {error}")
        else:
            self._tally.done()

    def _stop_servers(self) -> None:
        grace_s = ABANDON_GRACE_S if self._orders.why == "Abandoned" else SERVING_GRACE_S
        with self._lock:
            servers = list(self._servers)
        threads = [threading.Thread(target=server.stop, args=(grace_s,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _finish(self, status: str, reason: str | None) -> None:
        now = time.time()
        members = {"FailureReason": reason} if reason else {}
        self._site.store.update(
            KIND,
            self.name,
            TransformJobStatus=status,
            TransformEndTime=now,
            LastModifiedTime=now,
            **members,
        )


def _environment(job: Document) -> dict[str, str]:
    """What the service sets, of the parameters only those that the request names, and what the
    request sets."""
    named = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": job.get("MaxPayloadInMB"),
        "SAGEMAKER_BATCH_STRATEGY": STRATEGIES.get(job.get("BatchStrategy", "")),
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": job.get("MaxConcurrentTransforms"),
    }
    set_here = {name: str(value) for name, value in named.items() if value is not None}
    return {"SAGEMAKER_BATCH": "true", **set_here, **job.get("Environment", {})}
