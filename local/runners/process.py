"""Runs containers' programs as processes of this machine, each on a tree of its own.

No Docker is needed: an image is a folder with the programs `train` and `serve`. They find their
tree at /opt/ml where mount namespaces are to be had, and always by SAGEMAKER_BASE_DIR; their port
by SAGEMAKER_BIND_TO_PORT. Not isolated: they see this machine's files and network. Linux only.
"""

import contextlib
import functools
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from local.runners.runner import CannotRun, ImageMissing, Task
from local.settings import LocalSettings

MARK = "KENNEL_TASK"  # a variable of every process of a task, by which a later server knows them
OWN_IMAGES = ("kennel-train", "kennel-serve")
# Of this server's environment, what a program needs of the machine. All else stays outside, as
# with a container.
PASSED = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|(OPENBLAS|OMP|MKL|NVIDIA|CUDA)_\w+"
    r"|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|PIP_\w+|(?i:https?|no|all)_(?i:proxy)"
)
# In a mount namespace of its own a task finds its tree at /opt/ml, as in a container: a /opt with
# everything that is there, and the tree. $1: tree, $2: folders of it that are read-only, $3: a file
# of names in place of /etc/hosts, $4: host name, $5: an empty folder.
MOUNTED = """
set -e
for folder in $2; do
  mount --bind "$1/$folder" "$1/$folder"
  mount -o remount,bind,ro "$1/$folder"
done
mount -t tmpfs opt "$5"
for entry in /opt/*; do
  [ -d "$entry" ] || continue
  mkdir "$5/${entry##*/}"
  mount --rbind "$entry" "$5/${entry##*/}"
done
mkdir -p "$5/ml"
mount --rbind "$1" "$5/ml"
mount --rbind "$5" /opt
if [ -n "$3" ]; then mount --bind "$3" /etc/hosts; hostname "$4" 2>/dev/null || true; fi
shift 5
exec "$@"
"""


class ProcessRunner:
    name = "process"
    network_interface = "lo"
    reached_at: str | None = None

    def __init__(self, settings: LocalSettings) -> None:
        self._home = str(settings.home.resolve())
        programs = Path(sys.executable).parent
        self._images = dict.fromkeys(OWN_IMAGES, programs) | dict(settings.images)
        # The signal that ends children with their parent comes when the thread that started them
        # ends, so one thread that stays starts them all.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
        self._ports: dict[str, int] = {}

    def describe(self) -> str:
        images = ", ".join(f"{name} ({folder})" for name, folder in self._images.items())
        mounts = "" if _can_mount() else "; no mount namespaces: trees are not at /opt/ml"
        return f"processes of this machine{mounts}; images: {images}"

    def resolve(self, image: str) -> str:
        return f"{_repository(image)} in {self._folder(image)}"

    def check_gpus(self) -> None:
        found = shutil.which("nvidia-smi") and subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False
        )
        if not found or found.returncode or not found.stdout.strip():
            raise CannotRun("nvidia-smi lists no GPU on this machine.")

    def check_hosts(self, count: int) -> None:
        if count > 1 and not _can_mount():
            raise CannotRun(
                f"{count} hosts as processes need mount namespaces, which `unshare` is refused "
                "here. Use one instance, or the docker runner."
            )

    @property
    def protects(self) -> bool:
        return _can_mount()

    def path_inside(self, tree: Path) -> str:
        return str(tree)

    def url_inside(self, url: str) -> str:
        return url

    def start(self, task: Task) -> "Process":
        if task.isolated:
            raise CannotRun(
                "EnableNetworkIsolation needs the docker runner: processes share this machine's "
                "network."
            )
        environment = self._environment(task)
        address = ""
        if task.serves:
            port = _free_port()
            address = f"http://127.0.0.1:{port}"
            environment |= {"SAGEMAKER_BIND_TO_PORT": str(port), "SERVE_HOST": "127.0.0.1"}
        return self._starter.submit(
            Process, self._command(task), task.tree, environment, address
        ).result()

    def sweep(self) -> int:
        return sweep(Path(self._home))

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, image: str) -> Path:
        repository = _repository(image)
        for name in (repository, repository.rpartition("/")[2]):
            if name in self._images:
                return self._images[name]
        known = ", ".join(sorted(self._images))
        raise ImageMissing(
            "Cannot pull algorithm container. Either the image does not exist or its permissions "
            f"are incorrect. Image '{image}' is none of those that run without Docker: {known}. "
            f"Name a folder with its programs: kennel local up --image {repository}=FOLDER."
        )

    def _command(self, task: Task) -> list[str]:
        folder = self._folder(task.image)
        own = [str(folder / task.command), *task.arguments]
        if not task.entrypoint and not os.access(own[0], os.X_OK):
            raise CannotRun(
                f"The folder of image '{task.image}', {folder}, has no program '{task.command}'."
            )
        command = [*task.entrypoint, *task.arguments] if task.entrypoint else own
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        if not _can_mount():
            return command
        empty = Path(self._home) / "opt"
        empty.mkdir(exist_ok=True)
        places = [str(task.tree), " ".join(task.read_only), _hosts_file(task), task.host]
        places.append(str(empty))
        return [*_unshare(), "sh", "-c", MOUNTED, "sh", *places, *command]

    def _environment(self, task: Task) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
        path = f"{self._folder(task.image)}{os.pathsep}{own.get('PATH', os.defpath)}"
        environment = own | {"PATH": path, "PYTHONUNBUFFERED": "1"} | dict(task.environment)
        if not task.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if len(task.hosts) > 1:  # jobs side by side share the ports of one machine
            port = self._ports.setdefault(task.network, _free_port())
            environment.setdefault("MASTER_PORT", str(port))
        return environment | {
            "SAGEMAKER_BASE_DIR": str(task.tree),
            "SERVE_MODEL_DIR": str(task.tree / "model"),
            MARK: f"{self._home}:{task.name}",
        }


class Process:
    """A running task. When its first process ends, all that it has started ends."""

    def __init__(
        self, command: list[str], tree: Path, environment: Mapping[str, str], address: str
    ) -> None:
        self.address = address
        self._mark = environment[MARK]
        try:
            self._process = subprocess.Popen(
                command,
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotRun(f"{command[0]} can't be started: {error.strerror}.") from None
        self._ended = threading.Event()
        threading.Thread(target=self._reap, daemon=True).start()

    def lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        # newline=None: a progress bar's \r ends a line too.
        with io.TextIOWrapper(
            self._process.stdout, encoding="utf-8", errors="backslashreplace", newline=None
        ) as text:
            for line in text:
                yield line.rstrip("\n")

    def wait(self, timeout_s: float | None = None) -> int | None:
        if not self._ended.wait(timeout_s):
            return None
        code = self._process.returncode
        return 128 - code if code < 0 else code

    def stop(self, grace_s: float) -> int:
        self._process.terminate()
        if self.wait(grace_s) is None:
            self._end()
        code = self.wait()
        assert code is not None
        return code

    def _reap(self) -> None:
        self._process.wait()
        self._end()
        self._ended.set()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _kill(lambda mark: mark == self._mark)  # those that left the group


def sweep(home: Path) -> int:
    """Ends the processes that tasks of a home left behind; how many there were."""
    return _kill(lambda mark: mark.startswith(f"{home.resolve()}:"))


def _kill(meant: Callable[[str], bool]) -> int:
    """Kills the processes whose mark is meant; how many there were."""
    killed = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if meant(process.environ().get(MARK, "")):
                process.kill()
                killed += 1
    return killed


def _repository(image: str) -> str:
    """The name without registry, tag and digest."""
    name = image.partition("@")[0]
    registry, slash, rest = name.partition("/")
    if slash and ("." in registry or ":" in registry):
        name = rest
    return name.partition(":")[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _hosts_file(task: Task) -> str:
    """The names of a job's hosts. One host alone has no need of any."""
    if len(task.hosts) == 1:
        return ""
    file = task.tree.with_name(f"{task.tree.name}.hosts")
    lines = [f"127.0.0.{number} {host}" for number, host in enumerate(task.hosts, 1)]
    file.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    return str(file)


def _unshare() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--uts"]


@functools.cache
def _can_mount() -> bool:
    """Whether a task can have mounts of its own: as root, or where users may have namespaces."""
    if not shutil.which("unshare"):
        return False
    check = [*_unshare(), "sh", "-c", "mount --bind /etc/hosts /etc/hosts"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0
