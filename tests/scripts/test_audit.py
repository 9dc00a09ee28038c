"""The audit asks over HTTP, and never calls clean what nobody looked at."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.audit import Package, verdict
from tests.serve.server_process import free_port

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "docker" / "requirements" / "build.txt"


class Osv(BaseHTTPRequestHandler):
    """Speaks as api.osv.dev does; the one flaw it knows is in `wheel`."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
        events = [{"introduced": "0"}, {"fixed": "99.1"}]
        affected = {"package": asked, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
        entry = {"id": "PYSEC-2099-1", "summary": "Rolls away.", "affected": [affected]}
        body = json.dumps({"vulns": [entry]} if asked["name"] == "wheel" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def audit(lock: Path, database: str) -> "subprocess.CompletedProcess[str]":
    where = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": database}
    return subprocess.run(
        [sys.executable, "-m", "scripts.audit", str(lock)],
        cwd=ROOT,
        env=os.environ | where | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def lock_without(name: str, folder: Path) -> Path:
    """The lock file, but for one package."""
    blocks = re.split(r"(?m)^(?=\S)", LOCK.read_text(encoding="utf-8"))
    kept = [block for block in blocks if not block.startswith(f"{name}==")]
    (folder / "lock.txt").write_text("".join(kept), encoding="utf-8")
    return folder / "lock.txt"


def test_a_known_flaw_is_named_and_fails(database: str) -> None:
    done = audit(LOCK, database)
    assert done.returncode == 1, done.stderr
    assert ": PYSEC-2099-1, mended in 99.1\n4 packages audited, 1 known vuln" in done.stdout
    assert done.stdout.startswith("wheel ")


def test_packages_without_a_flaw_pass(database: str, tmp_path: Path) -> None:
    done = audit(lock_without("wheel", tmp_path), database)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 packages audited, 0 known vulnerabilities.\n"


def test_a_database_that_cannot_be_reached_is_no_failure_and_no_clean_bill() -> None:
    done = audit(LOCK, f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT AUDITED: the vulnerability database can't be reached. ")
    assert "127.0.0.1" in done.stdout
    assert "0 known" not in done.stdout


def test_a_mirror_that_finds_no_package_at_all_has_no_database() -> None:
    reason = "Dependency not found on PyPI and could not be audited: uv (0.13.9)"
    lines, code = verdict([{"name": "uv", "skip_reason": reason}], "")
    assert code == 0
    assert lines[0] == f"NOT AUDITED: the vulnerability database can't be reached. {reason}"


def test_a_package_the_database_does_not_know_is_named_beside_the_others() -> None:
    packages: list[Package] = [
        {"name": "ours", "skip_reason": "Dependency not found on PyPI: ours (1.0)"},
        {"name": "uv", "version": "0.13.9", "vulns": []},
    ]
    assert verdict(packages, "") == (
        [
            "Not audited: Dependency not found on PyPI: ours (1.0)",
            "1 packages audited, 0 known vulnerabilities.",
        ],
        0,
    )


def test_a_lock_file_without_hashes_fails(database: str, tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("wheel==0.48.0\n", encoding="utf-8")
    done = audit(tmp_path / "lock.txt", database)
    assert done.returncode == 1
    assert "hash" in done.stderr
