"""`taskraft lock`: run a command under a lock, look at locks, take one away."""

from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table

from taskraft import Client, LockInfo
from taskraft.cli.lock_run import run
from taskraft.cli.task_view import mapping, safe, when
from taskraft.terminal.options import DEFAULT_ADDRESS, Address, Output, OutputOption, Timeout, Yes
from taskraft.terminal.report import emit, err, human_count, human_duration, pairs, table
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0
LISTED = 1_000

lock = typer.Typer(help="Run a command under a lock, look at locks, take one away.", no_args_is_help=True)
lock.command("run")(run)

LockName = Annotated[str, typer.Argument(metavar="NAME", help="The lock's name.")]


@lock.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = LISTED,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the locks that are in use.

    Example:

    `taskraft lock list --output json | jq -r '.[] | select(.waiter_count > 0) | .name'`
    """

    async def work(client: Client) -> tuple[list[LockInfo], bool]:
        found: list[LockInfo] = []
        async for info in client.locks.list():
            if len(found) == limit:
                return found, True
            found.append(info)
        return found, False

    found, more = with_client(address, timeout, work)
    emit(output, found, overview(found) if found else "No lock is in use.")
    if more and output is Output.TABLE:
        err().print(f"There are more than {human_count(limit)}; --limit shows more of them.", style="dim")


@lock.command("show")
def show(
    name: LockName,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show who holds a lock and who waits for it.

    Example:

    `taskraft lock show import --output json | jq '.holders[0].token'`
    """
    info = with_client(address, timeout, lambda client: client.locks.get(name))
    emit(output, info, details(info))


@lock.command("release")
def release(
    name: LockName,
    token: Annotated[
        int | None, typer.Option("--token", min=1, help="Which holder; not needed if there is one.")
    ] = None,
    yes: Yes = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a lock away from whoever holds it: the next in line has it at once, whether its holder still works or not.

    Example:

    `taskraft lock release import --token 184549376`
    """
    if token is None:
        token = _only_holder(with_client(address, timeout, lambda client: client.locks.get(name)))
    if not yes:
        typer.confirm(f"Take {name} away from token {token}? It may be at work.", abort=True, err=True)
    with_client(address, timeout, lambda client: client.locks.release(name, token))
    emit(output, {"name": name, "token": token}, f"Token {token} does not hold {safe(name)} any more.")


def _only_holder(info: LockInfo) -> int:
    """Raises typer.BadParameter unless one holds it."""
    if info.holder_count == 1:
        return info.holders[0].token
    if not info.holder_count:
        raise typer.BadParameter(f"nobody holds {info.name}", param_hint="NAME")
    raise typer.BadParameter(f"{info.holder_count:,} hold {info.name}; say which one", param_hint="--token")


def overview(infos: list[LockInfo]) -> Table:
    grid = table(
        "lock", "held by", "as", "token", "expires in", "waiting", right=["token", "expires in", "waiting"]
    )
    for info in infos:
        first = info.holders[0] if info.holders else None
        others = f" and {info.holder_count - 1:,} more" if info.holder_count > 1 else ""
        lost = "[yellow]lost, lock delay[/]" if info.lost_holder_count else ""
        grid.add_row(
            safe(info.name),
            f"{safe(first.holder_id)}{others}" if first else lost,
            mode(info),
            str(first.token) if first else "",
            human_duration(first.expire_after) if first else "",
            f"{info.waiter_count:,}" if info.waiter_count else "",
        )
    return grid


def mode(info: LockInfo) -> str:
    if info.permits:
        return f"semaphore, {info.holder_count + info.lost_holder_count:,} of {info.permits:,}"
    return info.holders[0].mode if info.holders else ""


def details(info: LockInfo) -> Group:
    """All that is known of a lock."""
    if not (info.holder_count or info.waiter_count or info.lost_holder_count):
        return Group(f"Nobody uses {safe(info.name)}.")
    kind = f"semaphore with {human_count(info.permits, 'permit')}" if info.permits else "exclusive or shared"
    parts: list[Table | str] = [pairs({"lock": f"[bold]{safe(info.name)}[/]", "kind": kind})]
    if info.holders:
        held = table("held by", "as", "token", "since", "expires in", "labels", right=["token", "expires in"])
        for holder in info.holders:
            held.add_row(
                safe(holder.holder_id),
                holder.mode,
                str(holder.token),
                when(holder.grant_time),
                human_duration(holder.expire_after),
                mapping(holder.labels),
            )
        parts += [held, _rest(info.holder_count - len(info.holders))]
    if info.lost_holders:
        gone = table("lost by", "token", "free in", "labels", right=["token", "free in"])
        for lost in info.lost_holders:
            gone.add_row(
                safe(lost.holder_id), str(lost.token), human_duration(lost.free_after), mapping(lost.labels)
            )
        parts += [gone, _rest(info.lost_holder_count - len(info.lost_holders))]
    if info.waiters:
        line = table("waiting", "for", "since", "labels")
        for waiter in info.waiters:
            line.add_row(
                safe(waiter.holder_id), waiter.mode, when(waiter.create_time), mapping(waiter.labels)
            )
        parts += [line, _rest(info.waiter_count - len(info.waiters))]
    return Group(*(part for part in parts if part))


def _rest(count: int) -> str:
    return f"[dim]  and {count:,} more[/]" if count else ""
