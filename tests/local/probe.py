"""A `train` that does what its hyperparameters say, and tells what it was given."""

PROBE = """
import json, os, signal, socket, sys, time
from pathlib import Path

base = Path(os.environ["SAGEMAKER_BASE_DIR"])
config = base / "input" / "config"
hyperparameters = json.loads((config / "hyperparameters.json").read_text())

resources = json.loads((config / "resourceconfig.json").read_text())

def say(text):
    print(text, flush=True)

def ask(name, default=""):
    return hyperparameters.get(name, default)

def on_term(number, frame):
    say("got SIGTERM")
    (base / "model" / "rescued").write_text("in time")
    if ask("on_term") != "ignore":
        sys.exit(int(ask("exit_on_term", "0")))

if ask("on_term"):
    signal.signal(signal.SIGTERM, on_term)
for line in json.loads(ask("say", "[]")):
    say(line)
for path, text in json.loads(ask("write", "{}")).items():
    file = base / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
if ask("run"):
    exec(ask("run"))
if ask("report"):
    tree = sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file())
    files = {p.name: json.loads(p.read_text()) for p in config.iterdir()}
    report = {"tree": tree, "config": files, "environment": dict(os.environ)}
    (base / "output" / "data" / "report.json").write_text(json.dumps(report))
if ask("checkpoints"):  # counts its starts
    count = base / "checkpoints" / "count"
    starts = int(count.read_text()) + 1 if count.exists() else 1
    count.write_text(str(starts))
    say(f"start {starts}")
    if starts >= int(ask("checkpoints")):
        sys.exit(0)
if ask("meet"):  # two hosts greet each other by name
    me, (first, *others) = resources["current_host"], resources["hosts"]
    port = int(os.environ.get("MASTER_PORT", "7777"))
    if me == first:
        with socket.create_server(("", port)) as server:
            for _ in others:
                peer, _ = server.accept()
                say(f"{peer.recv(100).decode()} came to {me}")
                peer.sendall(b"welcome")
    else:
        for attempt in range(600):
            try:
                peer = socket.create_connection((first, port))
                break
            except OSError:
                time.sleep(0.05)
        peer.sendall(me.encode())
        say(f"{me} hears {peer.recv(100).decode()}")
end = time.monotonic() + float(ask("seconds", "0"))
while time.monotonic() < end:
    time.sleep(0.02)
say("done")
failing = ask("failing_host")
if failing in ("", resources["current_host"]):
    if ask("failure"):
        (base / "output" / "failure").write_text(ask("failure"))
    sys.exit(int(ask("exit", "0")))
"""
