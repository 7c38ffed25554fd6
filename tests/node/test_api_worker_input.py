"""What a worker may say, and what it is told if it says something else."""

from typing import Any

import pytest

from node import limits
from node.api.worker_input import check_request
from node.errors import InvalidField
from taskraft.v1 import task_pb2, worker_pb2


def outcomes(*each: worker_pb2.Outcome) -> worker_pb2.WorkRequest:
    return worker_pb2.WorkRequest(outcomes=worker_pb2.Outcomes(outcomes=each))


def result(**fields: Any) -> worker_pb2.Outcome:
    return worker_pb2.Outcome(lease_id=1, result=task_pb2.TaskResult(**fields))


LONGEST = "t" * limits.CONTENT_TYPE_CHARS_MAX


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (outcomes(result(content_type=LONGEST + "t")), "outcomes.outcomes[0].result.content_type"),
        (
            outcomes(result(), result(content_type="t" * 3_500_000)),
            "outcomes.outcomes[1].result.content_type",
        ),
        (outcomes(result(), worker_pb2.Outcome(lease_id=2)), "outcomes.outcomes[1].kind"),
        (outcomes(*[result()] * (limits.OUTCOMES_MAX + 1)), "outcomes.outcomes"),
    ],
    ids=["a long content type", "one that hides behind a good one", "no outcome", "too many"],
)
def test_an_outcome_that_is_not_allowed_is_refused_with_the_field(
    request_: worker_pb2.WorkRequest, field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        check_request(request_)
    assert caught.value.metadata["field"] == field


def test_the_longest_content_type_is_allowed() -> None:
    check_request(outcomes(result(data=b"x", content_type=LONGEST)))
