from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taskraft import App, Client, NewTask, Rate, errors
from taskraft._task_values import STATES
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.client.broker import Broker

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def test_a_queue_of_tasks_has_its_settings(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        info = await client.create_queue(
            "t",
            kind="task",
            policy="fair_share",
            tenant_weights={"a": 2},
            aging=0,
            rate=Rate(5, 3),
            rate_per_key=2,
            retain_failed=60,
        )
        stored = broker.store.queues["queues/t"].queue.scheduling
        assert stored.HasField("aging")
        assert stored.rate_per_key.per_second == 2

        changed = await client.update_queue("t", policy="priority", placement="pack", rate=None)

        assert info.kind == "task"
        assert info.scheduling is not None
        assert info.scheduling["policy"] == "fair_share"
        assert info.scheduling["rate"] == Rate(5, 3)
        assert info.scheduling["aging"] == 0
        assert changed.scheduling is not None
        assert changed.scheduling["policy"] == "priority"
        assert changed.scheduling["placement"] == "pack"
        assert changed.scheduling["rate"] is None
        assert changed.scheduling["rate_per_key"] == Rate(2, 0) or changed.scheduling["rate_per_key"] == Rate(
            2
        )
        assert (await client.get_queue("q")).scheduling is None

    play(story)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"policy": "lottery"}, "scheduling.policy"), ({"placement": "here"}, "scheduling.placement")],
)
def test_unknown_words_are_refused_with_those_that_are_known(
    play: Play, settings: dict[str, Any], field: str
) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.InvalidArgument, match="is one of") as caught:
            await client.create_queue("t", kind="task", **settings)
        assert caught.value.metadata == {"field": field}
        with pytest.raises(TypeError, match="no setting named speed"):
            await client.update_queue("t", speed=3)  # type: ignore[call-arg]
        with pytest.raises(errors.InvalidArgument, match="a state is one of"):
            await anext(client.tasks.list(states=["asleep"]))  # type: ignore[list-item]

    play(story)


def test_every_state_of_the_contract_has_a_name() -> None:
    assert len(STATES) == len(task_pb2.TaskState.keys())


def test_an_explanation_says_why_and_when(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit(NewTask(id="a", type="t", queue="t"))

        explanation = await client.tasks.explain("a")

        assert [one.reason for one in explanation.obstacles] == ["NO_WORKER"]
        assert (explanation.tasks_ahead, explanation.work_ahead, explanation.start) == (3, 1.5, None)

    play(story)


def test_an_app_refuses_settings_of_queues_that_make_no_sense_at_once() -> None:
    app = App()
    with pytest.raises(errors.InvalidArgument, match=r"policy is one of fifo, priority, .*, not 'lifo'"):
        app.queue("q", policy="lifo")  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"a queue has no setting named max_runing; did you mean max_running\?"
    ):
        app.queue("q", max_runing=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="lease='2s' is not what the setting takes"):
        app.queue("q", lease="2s")  # type: ignore[arg-type]

    assert not app.queues
