"""A training program for tests of tuning jobs: its loss is the distance to the bottom of a bowl."""

# Hyperparameters: `x` and `y` are where in the bowl; the others say what happens on the way.
BOWL = """
import json, os, sys, time
from pathlib import Path

root = Path(os.environ["SAGEMAKER_BASE_DIR"])
given = json.loads((root / "input/config/hyperparameters.json").read_text())
x, y = float(given.get("x", 0)), float(given.get("y", 0))
loss = (x - 0.3) ** 2 + (y + 0.5) ** 2
(root / "model" / "given.json").write_text(json.dumps(given))

if "side_by_side" in given:  # the first ones wait for one another
    folder, limit = given["folder"], int(given["side_by_side"])
    begun = time.monotonic()
    Path(folder, os.environ["TRAINING_JOB_NAME"]).touch()
    while len(os.listdir(folder)) < limit:
        time.sleep(0.01)
    print(f"interval={begun}")

if x > float(given.get("fails_above", "inf")):
    sys.exit(f"x is {x}, which is too much")
if "says" in given and x < float(given.get("hangs_above", "inf")):
    print(given["says"])
    sys.exit()

for epoch in range(1, int(given.get("epochs", 1)) + 1):
    print(f"loss={loss * (1 + 1 / epoch) / 2:.9f};")
    time.sleep(float(given.get("epoch_s", 0)))
    if x > float(given.get("hangs_above", "inf")):
        while not Path(given.get("until", "/nowhere")).exists():
            time.sleep(0.02)
"""
