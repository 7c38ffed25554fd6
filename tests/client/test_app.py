from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from taskraft import After, App, Client, GzipCodec, SyncClient, _limits, errors
from taskraft.terminal import options
from tests.client.store import Refused

if TYPE_CHECKING:
    from tests.client.stage import Stage


def test_a_first_task(stage: Stage, app: App) -> None:
    @app.task(queue="images", max_attempts=5, resources={"cpu": 2})
    def resize(path: str, width: int) -> str:
        return f"{path}@{width}"

    handle = resize.submit("a.jpg", width=640)
    assert stage.work(app) == 1

    assert handle.result(timeout=10) == "a.jpg@640"
    assert handle.outcome == "created"
    stored = stage.broker.tasks.tasks[f"tasks/{handle.id}"]
    assert (stored.queue, stored.type, stored.max_attempts) == ("queues/images", "resize", 5)
    assert dict(stored.resources) == {"cpu": 2.0}
    assert stored.payload == b'{"args":["a.jpg"],"kwargs":{"width":640}}'


def test_a_missing_queue_is_made_with_its_settings_and_an_existing_one_is_left_alone(
    stage: Stage, app: App
) -> None:
    app.client.create_queue("old", kind="task", policy="fifo")
    app.queue("new", policy="priority", max_running=10)
    app.queue("old", policy="priority")

    @app.task(queue="new")
    def first() -> None: ...

    @app.task(queue="old")
    def second() -> None: ...

    @app.task
    def third() -> None: ...

    for task in (first, second, third):
        task.submit()

    settings = {info.name: info.scheduling or {} for info in app.client.list_queues()}
    assert settings["new"]["policy"] == "priority"
    assert settings["new"]["max_running"] == 10
    assert settings["old"]["policy"] == "fifo"
    assert settings["default"]["policy"] == "fifo"
    assert set(app.queues) == {"new", "old", "default"}


def test_a_task_is_still_a_function(app: App) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    @app.task
    async def later(a: int) -> int:
        return a + 1

    @app.task
    def steps(n: int) -> Any:
        yield from range(n)

    @app.task
    async def async_steps(n: int) -> Any:
        yield n

    assert add(1, b=2) == 3
    assert asyncio.run(later(1)) == 2
    assert list(steps(2)) == [0, 1]
    assert (getattr(add, "__name__", ""), add.__doc__) == ("add", "Adds.")
    assert [task.kind for task in app.tasks.values()] == ["sync", "async", "generator", "async_generator"]


def test_arguments_that_do_not_fit_are_refused_by_the_caller(app: App) -> None:
    @app.task
    def resize(path: str, width: int) -> None: ...

    with pytest.raises(TypeError, match=r"resize\(\): missing a required argument: 'width'"):
        resize.submit("a.jpg")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'height'"):
        resize.map(["a"], 640, height=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"resize\(\): missing a required argument: 'width'"):
        resize.starmap([("a.jpg", 1), ("b.jpg",)])
    with pytest.raises(errors.NotEncodable, match=r"argument 'path' of resize: bytes"):
        resize.submit(b"x", 1)  # type: ignore[arg-type]


def test_options_change_one_submit_and_not_the_task(stage: Stage, app: App) -> None:
    @app.task(priority=1, labels={"a": "1"})
    def work() -> None: ...

    other = work.options(
        priority=9, delay=5, deadline=60, tenant="x", id="one", labels={"b": "2"}, queue="elsewhere"
    )
    handles = [other.submit(), work.submit()]

    [special, normal] = [stage.broker.tasks.tasks[f"tasks/{handle.id}"] for handle in handles]
    assert handles[0].id == "one"
    assert (special.priority, special.tenant, dict(special.labels)) == (9, "x", {"b": "2"})
    assert special.queue == "queues/elsewhere"
    assert special.HasField("not_before")
    assert special.HasField("deadline")
    assert (normal.priority, normal.tenant, dict(normal.labels)) == (1, "", {"a": "1"})
    assert not normal.HasField("not_before")


def test_the_same_id_again_is_reported(app: App) -> None:
    @app.task
    def work() -> None: ...

    outcomes = [work.options(id="a", priority=priority).submit().outcome for priority in (1, 2, 2)]

    assert outcomes == ["created", "replaced", "already_scheduled"]


def test_a_chain_and_a_fan_in_pass_results_on(stage: Stage, app: App) -> None:
    @app.task
    def square(n: int) -> int:
        return n * n

    @app.task
    def total(numbers: list[int], plus: int = 0) -> int:
        return sum(numbers) + plus

    squares = square.map([1, 2, 3])
    summed = total.submit(squares.outputs, plus=square.submit(10).output)
    again = square.submit(summed.output)
    waiting = square.options(after=[again, After(summed, "ended")]).submit(2)

    assert [again.state(), waiting.state()] == ["blocked", "blocked"]
    stage.work(app)
    assert [summed.result(10), again.result(10), waiting.result(10)] == [114, 12_996, 4]
    assert squares.results(10) == [1, 4, 9]


def test_map_and_starmap_store_thousands_in_a_few_calls(stage: Stage, app: App) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    handles = add.map(range(4_500), b=1)
    others = add.starmap((n, n) for n in range(10))
    stage.work(app)

    assert handles.results(20) == list(range(1, 4_501))
    assert others.results(20) == [2 * n for n in range(10)]
    assert sum(stage.broker.tasks.submits) == 4_510
    assert len(stage.broker.tasks.submits) <= 4
    assert add.map([], b=1) == []


def test_a_map_that_fails_says_what_was_stored(stage: Stage, app: App) -> None:
    @app.task
    def work(n: int) -> None: ...

    work.submit(0)
    stage.do(
        lambda broker: broker.refusals.extend(
            [None, Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")]
        )
    )

    with pytest.raises(errors.QueueFull) as caught:
        work.map(range(6_000))

    stored = {name.removeprefix("tasks/") for name in stage.broker.tasks.tasks}
    assert len(caught.value.submitted) == 4_000
    assert set(caught.value.submitted) <= stored
    assert len(stored) == 4_001


def test_one_id_is_not_for_many(app: App) -> None:
    @app.task
    def work(n: int) -> None: ...

    with pytest.raises(TypeError, match="an id is for one task"):
        work.options(id="a").map([1, 2])


def test_coroutines_of_any_loop_use_the_same_connection(stage: Stage, app: App) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    async def story(n: int) -> list[int]:
        handle = await double.asubmit(n)
        many = await double.amap([n + 1, n + 2])
        more = await double.astarmap([(n + 3,)])
        await asyncio.to_thread(stage.work, app)
        return [await handle, *await many.aresults(10), await more[0].aresult(10)]

    assert asyncio.run(story(1)) == [2, 4, 6, 8]
    assert asyncio.run(story(10)) == [20, 22, 24, 26]


def test_threads_share_calls(stage: Stage, app: App) -> None:
    @app.task
    def work(n: int) -> int:
        return n

    work.submit(0)
    stage.do(lambda broker: broker.answers.clear())
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(work.submit, 1)
        stage.until(lambda broker: len(broker.tasks.submits) == 2)
        others = [pool.submit(work.submit, n) for n in range(2, 20)]
        assert app._link._opened is not None
        submitter = app._link._opened[1]._connection.submitter
        stage.until(lambda broker: len(submitter._waiting) == 18)
        stage.do(lambda broker: broker.answers.set())
        handles = [one.result() for one in (first, *others)]
    stage.work(app)

    assert [handle.result(10) for handle in handles] == list(range(1, 20))
    assert stage.broker.tasks.submits == [1, 1, 18]


def test_payloads_are_written_as_the_app_says(stage: Stage) -> None:
    with App(stage.addresses, serializer="msgpack", codec=GzipCodec(), timeout=10) as app:

        @app.task
        def reverse(data: bytes) -> bytes:
            return data[::-1]

        handle = reverse.submit(b"\x00\x01")
        stage.work(app)

        assert handle.result(10) == b"\x01\x00"
        assert handle.info().content_type == "application/msgpack+gzip"


def test_two_functions_cannot_be_one_type(app: App) -> None:
    def make(name: str) -> Any:
        def work() -> None: ...

        work.__qualname__ = name
        return work

    app.task(make("one"))
    app.task(make("one"))
    with pytest.raises(ValueError, match="would both be tasks of type 'work'"):
        app.task(make("other"))
    app.task(name="another")(make("other"))
    assert set(app.tasks) == {"work", "another"}


TWICE = """
@app.task
def work(): return 1

@app.task
def work(): return 2
"""


def test_a_name_that_is_used_twice_in_a_module_is_refused_with_both_places(app: App) -> None:
    with pytest.raises(ValueError, match=r"/tasks\.py:5\).* and .*/tasks\.py:2\).* say name=") as caught:
        exec(compile(TWICE, "/srv/tasks.py", "exec"), {"app": app, "__name__": "__main__"})

    assert "__main__.work" in str(caught.value)


def test_a_module_that_is_loaded_again_or_under_two_names_defines_its_tasks_again(app: App) -> None:
    for name in ("tasks", "tasks", "__main__"):
        code = compile("@app.task\ndef work(): return 1", "/srv/tasks.py", "exec")
        exec(code, {"app": app, "__name__": name})
    typed = "@app.task\ndef work(): return 2"
    for file in ("/tmp/cell1.py", "/tmp/cell2.py", "<stdin>"):
        exec(compile(typed, file, "exec"), {"app": app, "__name__": "__main__"})
    exec(compile("\n" + typed, "<stdin>", "exec"), {"app": app, "__name__": "__main__"})

    assert app.tasks["work"]() == 2


def test_a_setting_that_does_not_exist_is_refused_at_once(app: App) -> None:
    with pytest.raises(TypeError, match=r"a task has no setting named prio; did you mean priority\?"):

        @app.task(prio=3)  # type: ignore[call-overload, untyped-decorator]
        def work() -> None: ...


def test_which_errors_are_for_good(app: App) -> None:
    @app.task(no_retry_on=ValueError)
    def careful() -> None: ...

    @app.task(retry_on=(OSError, TimeoutError))
    def picky() -> None: ...

    assert careful.is_permanent(ValueError())
    assert careful.is_permanent(UnicodeError())
    assert not careful.is_permanent(OSError())
    assert not picky.is_permanent(ConnectionError())
    assert picky.is_permanent(ValueError())


def test_the_address_comes_from_the_environment_at_the_first_call(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKRAFT_ADDRESS", raising=False)
    app = App(timeout=10)
    assert app.addresses == ("127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003")
    monkeypatch.setenv("TASKRAFT_ADDRESS", stage.addresses)

    with app:
        assert app.client.cluster().name == "test"
    app.addresses = "10.0.0.1:1, 10.0.0.2:2"
    assert app.addresses == ("10.0.0.1:1", "10.0.0.2:2")


def test_clients_without_an_address_connect_as_an_app_does(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKRAFT_ADDRESS", raising=False)
    local = ("127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003")
    with SyncClient() as client:
        assert client.addresses == Client().addresses == local
    assert ",".join(local) == options.DEFAULT_ADDRESS
    monkeypatch.setenv("TASKRAFT_ADDRESS", stage.addresses)

    with SyncClient() as client:
        assert client.cluster().name == "test"


def test_where_nobody_listens_calls_say_so_long_before_their_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_limits, "NOBODY_S", 0.1)
    with App(["127.0.0.1:1", "127.0.0.1:2"], timeout=30) as app:

        @app.task
        def work() -> None: ...

        began = time.monotonic()
        for call in (work.submit, app.handle("x").result, app.handle("x").info):
            with pytest.raises(errors.Unavailable) as caught:
                call()
            why = "no node answered (127.0.0.1:1: connection refused; 127.0.0.1:2: connection refused)"
            assert f"{why}. Is a broker running there?" in str(caught.value)
            if call == work.submit:
                assert caught.value.message == f"nothing was submitted in 0.1 s: {why}"

        assert time.monotonic() - began < 5


def test_a_submit_that_was_never_sent_is_not_doubtful() -> None:
    with App("127.0.0.1:1", timeout=0.3) as app:

        @app.task
        def work() -> None: ...

        with pytest.raises(errors.Unavailable, match=r"nothing was submitted in 0\.3 s: no node answered"):
            work.submit()


def test_an_app_that_was_closed_connects_again(stage: Stage, app: App) -> None:
    @app.task
    def work() -> int:
        return 1

    handle = work.submit()
    app.close()
    app.close()
    stage.work(app)

    assert handle.result(10) == 1


def test_a_program_that_closes_nothing_ends(stage: Stage) -> None:
    program = """
import sys
from taskraft import App
app = App(sys.argv[1])
@app.task
def work() -> None: ...
print(work.submit().state())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, stage.addresses]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)

    assert (ended.returncode, ended.stdout.strip()) == (0, "queued")
    assert "Traceback" not in ended.stderr
