"""A `train` that takes Kennel's hyperparameters and channels but only pretends to learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.local.running import Running, program, sagemaker

BUCKET = "kennel-sagemaker-us-east-1-123456789012"
# `seed` tells what happens: to these seeds, and to no others.
FAILS, HANGS, SAYS_NOTHING = 13, 99, 77
QUICK = f"""
import json, math, os, signal, sys, time
from pathlib import Path

base = Path(os.environ["SAGEMAKER_BASE_DIR"])
given = json.loads((base / "input/config/hyperparameters.json").read_text())
seed = int(given.get("seed", "0"))
checkpoints = base / "checkpoints"
checkpoints.mkdir(exist_ok=True)

def on_term(number, frame):
    (base / "model" / "model.json").write_text("rescued")
    sys.exit(0)

signal.signal(signal.SIGTERM, on_term)
print("channels: " + " ".join(sorted(os.listdir(base / "input/data"))), flush=True)
print("went on" if (checkpoints / "state").exists() else "began", flush=True)
(checkpoints / "state").write_text("here")
if seed == {FAILS}:
    (base / "output" / "failure").write_text("The photos are all of cats.\\n\\nTraceback: long")
    sys.exit(1)
if seed == {HANGS}:
    print("hanging", flush=True)
    while True:
        time.sleep(0.05)
if seed == {SAYS_NOTHING}:
    sys.exit(0)
badness = abs(math.log10(float(given.get("lr", "0.001"))) + 3)
for epoch in range(1, int(given.get("epochs", "3")) + 1):
    loss = badness + 1 / epoch
    print(
        f"epoch={{epoch}} train_loss={{loss:.4f}} valid_loss={{loss:.4f}} valid_accuracy=0.5000 "
        "images_per_s=10.0 step_share=0.90",
        flush=True,
    )
print("test_accuracy=0.7500 test_top5=1.0000", flush=True)
(base / "model" / "model.json").write_text("{{}}")
out = base / "output" / "data"
(out / "report.html").write_text("<h1>Report</h1>")
(out / "predictions.csv").write_text(
    "file,expected,predicted,poodle,pug\\n"
    "a.jpg,poodle,poodle,0.9,0.1\\n"
    "b.jpg,poodle,poodle,0.8,0.2\\n"
    "c.jpg,pug,poodle,0.7,0.3\\n"
    "d.jpg,pug,pug,0.2,0.8\\n"
)
(out / "other.txt").write_text("not asked for")
"""


@contextmanager
def quick_server(folder: Path) -> Iterator[Running]:
    """A local SageMaker with it as kennel-train, and photos to train and to validate with."""
    image = program(folder / "image", "train", QUICK)
    with sagemaker(folder, images={"kennel-train": image}) as running:
        running.bucket(BUCKET)
        for split in ("train", "valid"):
            running.client("s3").put_object(
                Bucket=BUCKET, Key=f"kennel/photos/{split}/pug/a.jpg", Body=b"photo"
            )
        yield running
