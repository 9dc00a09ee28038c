"""A real registry on loopback in place of ECR's: Debian's docker-registry, with a password."""

import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "docker-registry"
CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: kennel, path: {folder}/htpasswd}}}}
"""


def missing_registry() -> str | None:
    """Why there can be none, or None."""
    return None if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (apt-get install it)."


@contextmanager
def registry(folder: Path, user: str, password: str) -> Iterator[str]:
    """Its HOST:PORT, which Docker trusts without TLS; its images lie in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "htpasswd").write_text(f"{user}:{_hashed(password)}\n")
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=port))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", folder / "config.yml"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while not _listens(port):  # the test's timeout is the only clock
            assert process.poll() is None, (folder / "registry.log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _hashed(password: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.13 drops it, we are at 3.11
        import crypt
    return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))
