"""The image's health check: is /ping of the server beside it answered with 200?"""

import http.client
import os
import sys

# As long as SageMaker waits; an answer that comes later is none.
TIMEOUT_S = 2


def main() -> None:
    # Not by serve.settings, whose imports would take longer than all the rest of the check.
    host = os.environ.get("SERVE_HOST", "0.0.0.0")
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")
    try:
        status, said = _ping(host, int(port))
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.exit(f"No answer from /ping on {host} port {port}: {str(error).strip()}")
    if status != 200:
        sys.exit(f"/ping on {host} port {port} answers {status}: {said}")


def _ping(host: str, port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    connection.request("GET", "/ping")
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


if __name__ == "__main__":
    main()
