from typing import Any

import pytest

from local.listing import Listing
from local.wire import Refused

LISTING = Listing("TrainingJobName", "TrainingJobSummaries", "TrainingJobStatus")


def job(name: str, created: float, status: str = "Completed") -> dict[str, Any]:
    return {"TrainingJobName": name, "CreationTime": created, "TrainingJobStatus": status}


JOBS = [
    job("c", 1),
    job("a", 2, "Failed"),
    job("B", 3),
    *(job(f"n{i:02}", 10 + i) for i in range(20)),
]


def listed(**request: Any) -> list[str]:
    page = LISTING.page(JOBS, {"MaxResults": 100} | request)
    return [found["TrainingJobName"] for found in page["TrainingJobSummaries"]]


def test_it_sorts_by_creation_and_the_other_way_round_if_asked() -> None:
    assert listed()[:3] == ["c", "a", "B"]
    assert listed(SortOrder="Descending")[-3:] == ["B", "a", "c"]
    assert listed(SortBy="Name")[:3] == ["B", "a", "c"]
    assert listed(SortBy="Status")[-1] == "a"


def test_it_filters_by_every_member_of_the_request() -> None:
    assert listed(NameContains="b") == ["B"]
    assert listed(StatusEquals="Failed") == ["a"]
    assert listed(CreationTimeAfter=2, CreationTimeBefore=3) == ["a", "B"]
    assert listed(LastModifiedTimeAfter=29) == ["n19"]
    assert listed(WarmPoolStatusEquals="Available") == []


def test_pages_follow_one_another_until_nothing_is_left() -> None:
    names: list[str] = []
    request: dict[str, Any] = {"MaxResults": 7, "SortBy": "Name"}
    while True:
        page = LISTING.page(JOBS, request)
        names += [found["TrainingJobName"] for found in page["TrainingJobSummaries"]]
        if "NextToken" not in page:
            break
        request["NextToken"] = page["NextToken"]
    assert names == sorted(found["TrainingJobName"] for found in JOBS)


def test_without_a_size_a_page_has_ten() -> None:
    page = LISTING.page(JOBS, {})
    assert len(page["TrainingJobSummaries"]) == 10


@pytest.mark.parametrize("token", ["x", "eA==", "", "NQ=="])
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(Refused, match="NextToken"):
        LISTING.page(JOBS, {"NextToken": token})


def test_a_token_belongs_to_its_request() -> None:
    token = LISTING.page(JOBS, {})["NextToken"]
    with pytest.raises(Refused, match="other parameters"):
        LISTING.page(JOBS, {"NextToken": token, "NameContains": "n"})
