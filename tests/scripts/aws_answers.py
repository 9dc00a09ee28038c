"""Services that the local SageMaker lacks, as tiny servers: the price list and the quotas."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Document = dict[str, Any]
Answer = Callable[[str, Document], tuple[int, Document]]
"""Operation and request to HTTP status and answer."""


@contextmanager
def json_service(answer: Answer) -> Iterator[str]:
    """The address of a service that speaks AWS's JSON protocol."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            status, document = answer(operation, json.loads(body))
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class PriceList:
    """USD an hour by instance type and use; `asked` are the filters that came."""

    def __init__(self, usd: dict[tuple[str, str], list[float]]) -> None:
        self.usd, self.asked = usd, list[dict[str, str]]()

    def answer(self, operation: str, request: Document) -> tuple[int, Document]:
        assert operation == "GetProducts"
        assert request["ServiceCode"] == "AmazonSageMaker"
        wanted = {one["Field"]: one["Value"] for one in request["Filters"]}
        self.asked.append(wanted)
        prices = self.usd.get((wanted["instanceName"], wanted["platoinstancetype"]), [])
        return 200, {"FormatVersion": "aws_v1", "PriceList": [_product(usd) for usd in prices]}


def _product(usd: float) -> str:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{usd:.10f}"}}
    term = {"priceDimensions": {"A.B.C": dimension}}
    return json.dumps({"product": {}, "terms": {"OnDemand": {"A.B": term}}})


class Quotas:
    """Values by name, in pages of two; `defaults` are those that were never applied."""

    def __init__(self, values: dict[str, float], defaults: dict[str, float] | None = None) -> None:
        self.values, self.defaults = values, defaults or {}

    def answer(self, operation: str, request: Document) -> tuple[int, Document]:
        assert request["ServiceCode"] == "sagemaker"
        applied = operation == "ListServiceQuotas"
        values = list((self.values if applied else self.defaults).items())
        start = int(request.get("NextToken", 0))
        page = [
            {"QuotaName": name, "QuotaCode": f"L-{name[:6].upper()}", "Value": value}
            for name, value in values[start : start + 2]
        ]
        more = {"NextToken": str(start + 2)} if start + 2 < len(values) else {}
        return 200, {"Quotas": page, **more}


def denied(operation: str, request: Document) -> tuple[int, Document]:
    return 400, {"__type": "AccessDeniedException", "message": f"You may not {operation}."}
