"""The command `train`: what SageMaker runs. Every failure becomes a sentence and an exit code."""

import io
import logging
import os
import sys
import traceback
from typing import cast

from train.job import base_dir, open_job, write_failure

log = logging.getLogger("train")

# What torch reads but once, when it is imported; what the user has set wins.
ENVIRONMENT = {
    # How long idle threads spin before they sleep. With the default, some milliseconds, trainings
    # that share a machine (or one in a container with fewer cores than its host) wait for one
    # another: steps took 2 to 20 times longer. Alone, this one is as fast.
    "GOMP_SPINCOUNT": "2000",
    # Without it cuBLAS may add in another order each time.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def main() -> None:
    if sys.argv[1:] not in ([], ["train"]):  # the second is how SageMaker may call it
        sys.exit(
            f"`train` takes no arguments, got {' '.join(sys.argv[1:])!r}. Hyperparameters and "
            f"photos come from the tree in {base_dir()}: see README.md, Training."
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Linux file names need not be valid Unicode.
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        from train.run import run  # imports torch, so a torch that can't load is a failure too

        run(open_job())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sentence = _sentence(error)
        log.error("%s", sentence)
        write_failure(base_dir(), sentence, traceback.format_exc())
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """Our own exceptions speak for themselves; others need their kind."""
    if type(error).__module__.split(".")[0] in ("train", "serve"):
        return str(error)
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
