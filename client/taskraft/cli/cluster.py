"""`taskraft status` and `taskraft cluster`: who is in the cluster, who leads, and changing that."""

from typing import Annotated

import typer
from rich.table import Table

from taskraft import Client, ClusterInfo
from taskraft.terminal.options import DEFAULT_ADDRESS, Address, Output, OutputOption, Timeout, parse_duration
from taskraft.terminal.report import emit, err, human_bytes, human_count, pairs, table
from taskraft.terminal.session import with_client

DEFAULT_TIMEOUT_S = 10.0
TRANSFER_TIMEOUT_S = 30.0
UNHEALTHY = 1

cluster = typer.Typer(help="Add and remove members, move the leadership.", no_args_is_help=True)


def status(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the members of the cluster and who leads. Exit code 1 if nobody does.

    Examples:

    `taskraft status`

    `taskraft status --address 10.0.0.1:7001,10.0.0.2:7001 --output json | jq -r .leader_id`
    """
    info = with_client(address, timeout, lambda client: client.cluster())
    emit(output, info, summary(info), members_table(info))
    if not info.leader_id:
        raise typer.Exit(UNHEALTHY)


@cluster.command("add")
def add(
    member_id: Annotated[str, typer.Argument(metavar="ID", help="The new node's id.")],
    raft_address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Its peer (raft) address.")],
    catch_up: Annotated[
        float,
        typer.Option(
            "--catch-up",
            parser=parse_duration,
            metavar="DURATION",
            help="How long it may take to copy the log before it becomes a voter.",
        ),
    ] = "60s",  # type: ignore[assignment]  # typer parses the default as it parses the command line
    address: Address = DEFAULT_ADDRESS,
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a member: it copies the log without a vote first, then becomes a voter.

    Start the new node before, told to wait for this. Example:

    `taskraft node --node-id n4 --data-dir /data/n4 --join yes --raft-listen 10.0.0.4:7201 ...`

    `taskraft cluster add n4 10.0.0.4:7201`
    """

    async def work(client: Client) -> ClusterInfo:
        with err().status(f"{member_id} copies the log ..."):
            return await client.add_member(member_id, raft_address, catch_up_timeout=catch_up)

    info = with_client(address, DEFAULT_TIMEOUT_S, work)
    emit(output, info, f"{member_id} is a member.", members_table(info))


@cluster.command("remove")
def remove(
    member_id: Annotated[str, typer.Argument(metavar="ID", help="Which node.")],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TRANSFER_TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a member; a leader hands the leadership over first. Stop its process afterwards.

    Example:

    `taskraft cluster remove n4`
    """
    info = with_client(address, timeout, lambda client: client.remove_member(member_id))
    emit(output, info, f"{member_id} is not a member any more.", members_table(info))


@cluster.command("transfer")
def transfer(
    target: Annotated[
        str, typer.Argument(metavar="ID", help="Who shall lead; default: the most caught-up member.")
    ] = "",
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TRANSFER_TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hand the leadership to another member, and wait until it leads.

    Examples:

    `taskraft cluster transfer`

    `taskraft cluster transfer n2`
    """
    leader = with_client(address, timeout, lambda client: client.transfer_leadership(target))
    emit(output, {"leader_id": leader}, f"{leader} leads.")


def summary(info: ClusterInfo) -> Table:
    connected = sum(member.connected for member in info.members)
    return pairs(
        {
            "cluster": f"{info.name}, {connected} of {len(info.members)} members connected",
            "leader": f"{info.leader_id}, term {info.term}" if info.leader_id else "[red]none[/]",
            "log": f"{info.first_index} to {info.last_index}, {human_bytes(info.log_bytes)}; "
            f"committed {info.commit_index}, applied {info.applied_index}",
            "as seen by": f"{info.node_id}, version {info.version}",
        }
    )


def members_table(info: ClusterInfo) -> Table:
    grid = table("node", "role", "up", "gRPC", "HTTP", "peers", "log index", right=["log index"])
    for member in info.members:
        leads = member.role == "leader"
        grid.add_row(
            f"[bold]{member.id}[/]" if leads else member.id,
            f"[green]{member.role}[/]" if leads else member.role,
            "yes" if member.connected else "[red]no[/]",
            member.grpc_address,
            member.http_address,
            member.raft_address,
            human_count(member.match_index) if member.match_index else "",
        )
    return grid
