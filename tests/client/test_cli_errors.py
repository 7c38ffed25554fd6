"""Exit codes and error lines of the command line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskraft import errors
from taskraft.cli import run
from taskraft.local import LocalClusterError, free_port
from taskraft.terminal.report import HINTS, describe, one_line, report_error


def nobody() -> str:
    return f"127.0.0.1:{free_port(1)}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["queue", "create"],
        ["queue", "create", "a", "--ack-deadline", "soon"],
        ["queue", "update", "a"],
        ["queue", "publish", "a", "x", "--header", "novalue"],
        ["up", "--nodes", "0"],
        ["bench", "publish", "--batch", "0"],
        ["queue", "create", "a", "--kind", "stone"],
        ["queue", "create", "a", "--rate", "fast"],
        ["task", "submit", "a"],
        ["task", "submit", "a", "t", "--payload", "{"],
        ["task", "submit", "a", "t", "--args", "1"],
        ["task", "submit", "a", "t", "--args", "[]", "--payload", "1"],
        ["task", "submit", "a", "t", "--priority", "1001"],
        ["task", "submit", "a", "t", "--resource", "cpu=many"],
        ["task", "submit", "a", "t", "--deadline", "soon"],
        ["task", "list", "--order", "schedule"],
        ["task", "list", "--state", "lost"],
        ["task", "watch", "id", "--queue", "a"],
        ["task", "cancel"],
        ["task", "cancel", "id", "--queue", "a"],
        ["task", "retry", "--workflow", "w", "--queue", "a"],
        ["workflow", "list", "--state", "queued"],
        ["schedule", "create", "s", "a", "t"],
        ["schedule", "create", "s", "a", "t", "--every", "5m", "--cron", "@hourly"],
        ["schedule", "create", "s", "a", "t", "--every", "5m", "--overlap", "maybe"],
        ["worker", "no_such_module:app"],
        ["worker", "json:dumps"],
        ["worker", "json", "--threads", "many"],
        ["status", "--address", "127.0.0.1"],
        ["status", "--address", "127.0.0.1:7001,somewhere:http"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2_and_says_so(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Usage: taskraft" in printed.err


def test_no_broker_is_one_line_with_the_reason_and_one_with_a_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = nobody()

    assert run(["queue", "list", "--address", address, "--timeout", "0.3"]) == 1

    printed = capsys.readouterr()
    error, hint = printed.err.splitlines()
    assert error.startswith("error: UNAVAILABLE: ")
    assert address in error
    assert "taskraft up" in hint
    assert printed.out == ""


def test_an_unexpected_error_is_a_line_too_and_a_traceback_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("as planned")

    monkeypatch.setattr("taskraft.cli.cluster.with_client", broken)

    assert run(["status"]) == 1
    assert capsys.readouterr().err.startswith("error: ZeroDivisionError: as planned\nhint: ")

    monkeypatch.setenv("TASKRAFT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["status"])


def test_every_reason_that_a_person_can_do_something_about_has_a_hint() -> None:
    kinds = [errors.QueueFull, errors.DiskLow, errors.NoLeader, errors.QueueNotFound, errors.CatchUpTimeout]

    assert all(describe(kind())[2] for kind in kinds)
    assert HINTS.keys() <= {kind.default_reason for kind in tree(errors.TaskraftError)}


def tree(kind: type[errors.TaskraftError]) -> list[type[errors.TaskraftError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def test_the_details_of_an_error_are_shown() -> None:
    error = errors.InvalidArgument("too long", metadata={"field": "queue_id", "limit": "128"})

    assert describe(error)[:2] == ("INVALID_FIELD", "too long (field=queue_id, limit=128)")


def test_a_detail_that_the_message_has_already_is_not_repeated() -> None:
    error = errors.PayloadTooLarge(
        "messages[0] must be at most 10 bytes", metadata={"bytes": "1", "limit": "10 bytes"}
    )

    assert describe(error)[:2] == ("PAYLOAD_TOO_LARGE", "messages[0] must be at most 10 bytes (bytes=1)")


def test_of_several_errors_the_first_is_shown() -> None:
    group = ExceptionGroup("", [ExceptionGroup("", [errors.QueueFull("no room")]), ValueError("later")])

    assert describe(group)[:2] == ("QUEUE_FULL", "no room")


def test_square_brackets_in_an_error_are_text_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(LocalClusterError("[bold]/data[/]", "see [red]"))

    assert capsys.readouterr().err == "error: LOCAL_CLUSTER: [bold]/data[/]\nhint: see [red]\n"


def test_colons_around_a_word_are_text_and_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(LocalClusterError("no file a:smile:b"))

    assert capsys.readouterr().err == "error: LOCAL_CLUSTER: no file a:smile:b\n"


def test_text_of_others_cannot_steer_the_terminal() -> None:
    assert one_line("grün \x1b[31m\r\n\x07\u202e") == "grün \\x1b[31m\\r\\n\\x07\\u202e"


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m taskraft_cli_under_test --help | true"
    (tmp_path / "taskraft_cli_under_test.py").write_text("from taskraft.cli import main; main()")
    path = ":".join([str(tmp_path), *(entry for entry in sys.path if entry)])

    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["", "up", "status", "demo", "cluster add", "cluster remove", "cluster transfer", "queue create", "queue list",
     "queue show", "queue update", "queue delete", "queue purge", "queue publish", "queue consume",
     "task submit", "task list", "task show", "task watch", "task cancel", "task retry", "task explain",
     "workflow list", "workflow show", "workflow cancel", "workflow retry", "worker", "workers", "workers drain",
     "schedule create", "schedule list", "schedule show", "schedule pause", "schedule resume", "schedule trigger",
     "schedule delete",
     "bench publish", "bench e2e", "bench latency", "bench failover", "bench standard", "bench tasks"],
)  # fmt: skip
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0

    assert "Usage: taskraft" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0

    assert re.fullmatch(r"taskraft (\d[\w.]*|source)\n", capsys.readouterr().out)
