"""`taskraft task submit`: one task, from the command line."""

import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from taskraft import After, Client, NewTask, TaskInfo
from taskraft.cli.task_view import JSON_TYPE, content, safe, task_json
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_duration,
    parse_headers,
    parse_moment,
    parse_quantities,
)
from taskraft.terminal.report import emit, err
from taskraft.terminal.session import with_client
from taskraft.terminal.states import state_text

TIMEOUT_S = 10.0
NOT_SUCCEEDED = 1


def submit(
    queue: QueueName,
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="What is to be done: the task's name in its app.")
    ],
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="JSON", help="The input as it is; `-`: from standard input."),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(
            "--args", metavar="JSON", help="The arguments of a Python task: a list, or an object by name."
        ),
    ] = None,
    content_type: Annotated[
        str, typer.Option("--content-type", help="How the payload is written; only JSON is checked here.")
    ] = JSON_TYPE,
    task_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Known ids are not submitted twice. Default: a new one.")
    ] = "",
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, help="Higher first where the policy says so.")
    ] = 0,
    size: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Expected run time; default: learned."),
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", metavar="ID", help="Start when this task has succeeded.")
    ] = None,
    after_any: Annotated[
        list[str] | None,
        typer.Option("--after-any", metavar="ID", help="Start when one of these has succeeded."),
    ] = None,
    after_end: Annotated[
        list[str] | None,
        typer.Option("--after-end", metavar="ID", help="Start when this task has ended, in any way."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="KEY=VALUE", help="An attribute to search by."),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option("--resource", "-r", metavar="NAME=NUMBER", help="What it takes of its worker."),
    ] = None,
    worker_label: Annotated[
        list[str] | None,
        typer.Option("--worker-label", metavar="KEY=VALUE", help="What its worker must have."),
    ] = None,
    delay: Annotated[
        datetime | None,
        typer.Option(parser=parse_moment, metavar="TIME", help="Not started before: 5m from now, or a time."),
    ] = None,
    deadline: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_moment, metavar="TIME", help="To be ended by then: 5m from now, or a time."
        ),
    ] = None,
    max_attempts: Annotated[int, typer.Option(min=0, max=1000, help="Tries; 0: the queue's setting.")] = 0,
    lease: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="How long its worker may be silent."),
    ] = None,
    run_timeout: Annotated[
        float | None,
        typer.Option(
            "--run-timeout", parser=parse_duration, metavar="DURATION", help="Longest run of an attempt."
        ),
    ] = None,
    tenant: Annotated[str, typer.Option(help="On whose account it runs, for fair share.")] = "",
    limit_key: Annotated[str, typer.Option(help="What limits per key count by.")] = "",
    preemptible: Annotated[
        bool, typer.Option("--preemptible", help="May be stopped for a more urgent one.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", "-w", help="Wait for its end and print the result; exit code 1 without success."
        ),
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit one task. A known id is REPLACED if it waits with a lower priority, else it is ALREADY_SCHEDULED.

    Examples:

    `taskraft task submit images resize --args '["a.jpg", 640]' --wait`

    `taskraft task submit images resize --args '{"path": "a.jpg"}' --id a.jpg --priority 10 --deadline 5m`

    `taskraft task submit reports mail --after build-1 --after build-2 --delay 10m --label team=sales`
    """
    parents = [
        *(After(one) for one in after or []),
        *(After(one, "any_succeeded") for one in after_any or []),
        *(After(one, "ended") for one in after_end or []),
    ]
    task = NewTask(
        type=type_,
        queue=queue,
        id=task_id,
        payload=payload_of(payload, arguments, content_type),
        content_type=content_type,
        priority=priority,
        size=size,
        after=parents,
        labels=parse_headers(label or []),
        resources=parse_quantities(resource or []),
        worker_labels=parse_headers(worker_label or []),
        not_before=delay,
        deadline=deadline,
        max_attempts=max_attempts,
        lease=lease,
        timeout=run_timeout,
        tenant=tenant,
        limit_key=limit_key,
        preemptible=preemptible,
    )
    run(task, wait=wait, address=address, timeout_s=timeout, output=output)


def run(task: NewTask, *, wait: bool, address: str, timeout_s: float, output: Output) -> None:
    """Submit, and if wanted wait; prints what came of it."""

    async def work(client: Client) -> TaskInfo | None:
        submission = await client.tasks.submit(task)
        outcome = submission.outcome.replace("_", " ").capitalize()
        if not wait:
            emit(output, submission, f"{outcome}: [bold]{safe(submission.id)}[/]")
            return None
        err().print(f"{outcome}: {safe(submission.id)}", style="dim")
        with err().status("waiting for its end ..."):
            return await client.tasks.ended(submission.id)

    ended = with_client(address, timeout_s, work)
    if ended is not None:
        emit(output, task_json(ended), came_to(ended))
        if ended.state != "succeeded":
            raise typer.Exit(NOT_SUCCEEDED)


def came_to(task: TaskInfo) -> str:
    """What a task came to, in a line: its result if it succeeded."""
    if task.state == "succeeded":
        return content(task.result, task.result_content_type) or "succeeded, without a result"
    why = f": {safe(task.error.reason)}: {safe(task.error.message)}" if task.error else ""
    return f"{state_text(task.state).markup}{why}"


def payload_of(payload: str | None, arguments: str | None, content_type: str) -> bytes:
    """The bytes of `--payload` or `--args`. Raises typer.BadParameter for both, and for what is no JSON."""
    if payload is not None and arguments is not None:
        raise typer.BadParameter("give --payload or --args, not both")
    if arguments is not None:
        value = parse_json(arguments, "--args")
        if not isinstance(value, list | dict):
            raise typer.BadParameter("--args is a JSON list, or an object")
        return json.dumps(
            {"args" if isinstance(value, list) else "kwargs": value}, ensure_ascii=False
        ).encode()
    if payload is None:
        return b""
    data = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    if content_type == JSON_TYPE and data:
        parse_json(data, "--payload")
    return data


def parse_json(text: str | bytes, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
