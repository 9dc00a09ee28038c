"""The command `serve`: what SageMaker runs to host the model."""

import logging
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from serve.cuda import driver_facts, prefer_compat
from serve.model import start_loading
from serve.settings import BadSetting, ServeSettings, read_settings

log = logging.getLogger("serve")

# SageMaker sends SIGKILL 30 s after SIGTERM; what is in flight gets most of that.
DRAIN_S = 25


def main() -> NoReturn:
    # uvicorn drains on a signal and then raises it again; draining is a success.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, _leave)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if sys.argv[1:] not in ([], ["serve"]):  # the second is how SageMaker may call it
        sys.exit(
            f"`serve` takes no arguments, got {' '.join(sys.argv[1:])!r}. "
            "Its settings are environment variables: see README.md, Settings. "
            "To train, use the image that trains."
        )
    try:
        settings = read_settings()
        _check_address(settings)
    except BadSetting as error:
        sys.exit(str(error))
    if settings.device == "cuda":
        prefer_compat()
        log.info("%s", driver_facts())
    loading = start_loading(settings)

    # Imported only now: the web framework's import then overlaps with the loading of the model.
    import uvicorn

    from serve.app import create_app

    def stop() -> None:
        server.should_exit = True

    app = create_app(settings, loading, on_fatal=stop)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    server.run()
    sys.exit(app.state.service.fatal or 0)


def _check_address(settings: ServeSettings) -> None:
    """Finds out before the model is loaded whether the port is to be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise BadSetting(
            f"Can't listen on {settings.host} port {settings.port}: {reason}. Set "
            "SAGEMAKER_BIND_TO_PORT to a free port, or SERVE_HOST to an address of this machine."
        ) from None


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
