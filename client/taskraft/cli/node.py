"""`taskraft node`: one broker, in the foreground, for containers and service managers."""

import os

import typer

from taskraft.local.layout import node_command, node_environment


def node(context: typer.Context) -> None:
    """Run one broker in the foreground; all arguments are the node's (`taskraft node --help` lists them).

    For containers and service managers: this process becomes the node. Example:

    `taskraft node --node-id n1 --data-dir /var/lib/taskraft --members n1=10.0.0.1:7201,n2=10.0.0.2:7201,...`
    """
    command = [*node_command(), *context.args]
    os.execve(command[0], command, node_environment())  # noqa: S606  our own program
