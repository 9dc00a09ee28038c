"""The command `train`: what SageMaker runs. Every failure becomes a sentence and an exit code."""

import logging
import os
import sys
import traceback
from typing import NoReturn

from serve.cuda import prefer_compat
from train import stop
from train.job import (
    Failed,
    asks_for_script,
    base_dir,
    describe,
    forget_failure,
    log_to_stdout,
    open_job,
    write_failure,
)

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
            f"photos come from the tree in {base_dir()}: see README.md, Training. "
            "To serve, use the image that serves."
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    log_to_stdout(logging.INFO)
    stop.listen()
    prefer_compat()
    try:
        _run()
    except stop.Stopped as stopped:
        log.info("%s", stopped)
    except KeyboardInterrupt:
        sys.exit(130)
    except Failed as failure:
        _fail(str(failure), failure.details, failure.exit_code)
    except Exception as error:
        _fail(describe(error), traceback.format_exc(), 1)


def _fail(sentence: str, details: str, exit_code: int) -> NoReturn:
    log.error("%s", sentence)
    try:
        write_failure(base_dir(), sentence, details)
    except OSError as error:
        log.error("output/failure could not be written: %s.", error.strerror)
    sys.exit(exit_code)


def _run() -> None:
    forget_failure(base_dir())
    # Imported only now: what can't be imported is a failure like others, and takes its time.
    if asks_for_script():
        from train.script import run_script

        run_script(base_dir())
    else:
        from train.launch import launch

        launch(open_job())


if __name__ == "__main__":
    main()
