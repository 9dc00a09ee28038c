"""The List operations: filter, sort and page, as the service does."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.store import Document
from local.wire import invalid

PAGE = 10  # MaxResults, where the request names none
MOST = 100


@dataclass(frozen=True)
class Listing:
    """How one kind of document is listed; fields are names of the document's members."""

    name: str  # "TrainingJobName"
    members: str  # the answer's list: "TrainingJobSummaries"
    status: str = ""
    sort_by: str = "CreationTime"
    sort_order: str = "Ascending"

    def page(self, documents: Sequence[Document], request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer: one page and perhaps the token of the next. Raises Refused."""
        found = [d for d in documents if self._matches(d, request)]
        key = self._key(request.get("SortBy", self.sort_by))
        found.sort(key=key, reverse=request.get("SortOrder", self.sort_order) == "Descending")
        start = _position(request.get("NextToken"), request)
        size = min(request.get("MaxResults", PAGE), MOST)
        answer: dict[str, Any] = {self.members: found[start : start + size]}
        if start + size < len(found):
            answer["NextToken"] = _token(start + size, request)
        return answer

    def _matches(self, document: Document, request: Mapping[str, Any]) -> bool:
        created = document["CreationTime"]
        modified = document.get("LastModifiedTime", created)
        never = float("inf")
        return (
            request.get("NameContains", "").lower() in document[self.name].lower()
            and request.get("StatusEquals") in (None, document.get(self.status))
            and created >= request.get("CreationTimeAfter", 0)
            and created <= request.get("CreationTimeBefore", never)
            and modified >= request.get("LastModifiedTimeAfter", 0)
            and modified <= request.get("LastModifiedTimeBefore", never)
            # There are no warm pools and no training plans here.
            and "WarmPoolStatusEquals" not in request
            and "TrainingPlanArnEquals" not in request
        )

    def _key(self, sort_by: str) -> Callable[[Document], Any]:
        fields = {"Name": self.name, "Status": self.status, "CreationTime": "CreationTime"}
        if sort_by not in fields:
            return lambda d: (d[sort_by], d[self.name])
        return lambda d: (d[fields[sort_by]], d[self.name])


def _token(start: int, request: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, _filters(request)]).encode()).decode()


def _position(token: str | None, request: Mapping[str, Any]) -> int:
    if token is None:
        return 0
    try:
        start, filters = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error):
        raise invalid("NextToken is not one of this service's.") from None
    if filters != _filters(request) or not isinstance(start, int) or start < 0:
        raise invalid("NextToken belongs to a request with other parameters.")
    return start


def _filters(request: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sorted(request.items()) if k not in ("NextToken", "MaxResults")}
