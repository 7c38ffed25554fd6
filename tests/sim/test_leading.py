"""What a leader says, and when."""

import pytest

from raft.frames import Append
from raft.limits import ANNOUNCE_BYTES
from tests.sim.alone import Alone


@pytest.mark.parametrize(("size", "sooner"), [(ANNOUNCE_BYTES, True), (10, False)])
def test_followers_hear_of_a_large_commit_before_the_leader_is_busy_with_it(
    alone: Alone, monkeypatch: pytest.MonkeyPatch, size: int, *, sooner: bool
) -> None:
    alone.lead()
    heard: list[int] = []
    apply = alone.state.apply

    def slow(index: int, term: int, payload: bytes) -> object:
        heard.append(alone.said(Append, "n2")[-1].commit)
        return apply(index, term, payload)

    monkeypatch.setattr(alone.state, "apply", slow)
    alone.core.propose(b"x" * size, lambda result, error: None)
    alone.core.tick()
    alone.write()
    alone.acknowledge("n2")

    index = alone.core.log.last[0]
    assert heard == [index if sooner else index - 1]
    assert not [message for message in alone.said(Append, "n3") if message.commit == index]
