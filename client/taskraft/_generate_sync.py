"""Writes `_sync.py`: the blocking twin of the asyncio classes, made from their signatures and docstrings.

python -m taskraft._generate_sync            write it
python -m taskraft._generate_sync --check    fail if it is not what would be written
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
TWINS = {
    "Client": "_client",
    "Queue": "_queue",
    "Topic": "_topic",
    "Consumer": "_consumer",
    "Reader": "_reader",
    "Batch": "_message",
    "Message": "_message",
    "Pulled": "_pull",
    "Transaction": "_transaction",
    "Tasks": "_tasks",
    "Workflows": "_workflows",
    "Schedules": "_schedules",
    "Workers": "_workers",
    "Locks": "_locks",
    "Lock": "_locks",
    "Term": "_election",
    "Election": "_election",
}
HIDDEN = {
    "entered",
    "note_ack",
    "settle_ack",
    "settle_nack",
    "settle_reject",
    "next_batch",
    "start",
    "lease",
    "cut",
    "span",
    "lease_name",
    "enlist",
    "delist",
    "renewed",
    "submit_elements",
    "submit_workflow",
    "watch_responses",
    "ended",
    "enter",
    "leave",
    "begin",
    "end",
}
NAMES = re.compile(rf"\b({'|'.join(TWINS)})\b")
TWIN = re.compile(rf"\bSync({'|'.join(TWINS)})\b")

HEAD = '''"""Written by _generate_sync.py: change the asyncio classes and run `python -m taskraft._generate_sync`."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Self, Unpack

from taskraft import _limits, errors
from taskraft._bridge import Bridge
from taskraft._client import Client

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import grpc

    from taskraft._consumer import Consumer
    from taskraft._election import Election, Term
    from taskraft._lock_values import LockHolder, LockInfo
    from taskraft._locks import Lock, Locks
    from taskraft._message import Batch, Message
    from taskraft._new_task import NewTask
    from taskraft._operations import Result
    from taskraft._positions import Position
    from taskraft._pull import Pulled
    from taskraft._queue import Queue
    from taskraft._queue_values import Binding, DeadLetter, DeadLetterReason, GroupInfo, PeekedMessage
    from taskraft._reader import Reader
    from taskraft._schedules import ScheduleInfo, Schedules, ScheduleSettings
    from taskraft._scheduling import QueueKind, Scheduling
    from taskraft._task_values import Explanation, Submission, TaskInfo, TaskState, WorkflowInfo
    from taskraft._task import TaskFunction
    from taskraft._tasks import TaskFilter, TaskOrder, Tasks
    from taskraft._transaction import HeldLock, P, Transaction
    from taskraft._values import (
        ClusterInfo,
        OutgoingMessage,
        Overflow,
        QueueInfo,
        Receipt,
        SequenceRange,
    )
    from taskraft._topic import Topic
    from taskraft._workers import WorkerInfo, Workers
    from taskraft._workflows import Workflows
'''

HOLDING = {
    "Lock": {
        "lost": "return self._inner.lost_in_threads",
        "acquire": "self._bridge.run(self._inner.acquire())\nreturn self",
        "__aenter__": "return self.acquire()",
        "__aexit__": "self._bridge.run(self._inner.leave(failed=kind is not None))",
    },
    "Term": {
        "lost": "return self._inner.lost_in_threads",
        "__aenter__": "return self",
        "__aexit__": "self._bridge.run(self._inner.leave(failed=kind is not None))\nreturn isinstance(error, errors.LockLost)",
    },
    "Election": {
        "__aenter__": "return SyncLock(self._bridge, self._bridge.run(self._inner.begin()))",
        "__aexit__": "self._bridge.run(self._inner.end(failed=kind is not None))",
    },
}
"""Methods of those that hold something: a thread is not cancelled, it is told."""

CLIENT_INIT = """
        self._inner = Client({call})
        self._bridge = Bridge()
"""

CLIENT_OF = """
    @classmethod
    def of(cls, inner: Client, bridge: Bridge) -> Self:
        \"""The same client without `await`; `inner` is used in the bridge's loop only.\"""
        self = cls.__new__(cls)
        self._inner = inner
        self._bridge = bridge
        return self
"""

CLIENT_CLOSE = """
        if not self._bridge.stopped:
            try:
                self._bridge.run(self._inner.close())
            finally:
                self._bridge.stop()
"""


def blocking(text: str) -> str:
    """A docstring or an annotation as it reads without asyncio."""
    text = text.replace("async with", "with").replace("async for", "for").replace("await ", "")
    text = (
        text.replace("Several tasks", "Several threads")
        .replace("AsyncIterator", "Iterator")
        .replace("AsyncGenerator", "Iterator")
    )
    text = text.replace("asyncio.Event", "threading.Event")
    return text.replace("it belongs to the event loop in which it is first used", "any thread may use it")


def annotation(node: ast.expr | None) -> str:
    assert node is not None, "everything is annotated"
    return NAMES.sub(r"Sync\1", blocking(ast.unparse(node)))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = function.args
    for one in (*arguments.args[1:], *arguments.kwonlyargs):
        one.annotation = ast.parse(annotation(one.annotation), mode="eval").body
    return ast.unparse(arguments)


def passed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = function.args
    positional = [handed(one) for one in arguments.args[1:]]
    rest = [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    named = [f"{one.arg}={one.arg}" for one in arguments.kwonlyargs]
    others = [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return ", ".join([*positional, *rest, *named, *others])


def handed(argument: ast.arg) -> str:
    """An argument as the asyncio class takes it: what is a twin is unwrapped."""
    kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
    return f"{argument.arg}._inner" if TWIN.search(kind) else argument.arg


def wrapped(kind: str, value: str) -> str:
    """`value`, which has the asyncio type that belongs to the twin's type `kind`."""
    if match := re.fullmatch(r"Sync\w+", kind):
        return f"{match[0]}(self._bridge, {value})"
    if match := re.fullmatch(r"list\[(Sync\w+)\]", kind):
        return f"[{match[1]}(self._bridge, one) for one in {value}]"
    return value


def iterated(kind: str, value: str) -> str:
    inner = kind.removeprefix("Iterator[").removesuffix("]")
    if inner.startswith("Sync"):
        return f"for one in {value}:\n    yield {wrapped(inner, 'one')}"
    return f"yield from {value}"


def body(owner: str, function: ast.FunctionDef | ast.AsyncFunctionDef, kind: str) -> str:
    """The statements of a twin's method."""
    name, call = function.name, f"self._inner.{function.name}({passed(function)})"
    if (owner, name) == ("Client", "__init__"):
        return CLIENT_INIT.format(call=passed(function))
    if (owner, name) == ("Client", "close"):
        return CLIENT_CLOSE
    if (owner, name) in (("Consumer", "close"), ("Reader", "close")):
        return "if not self._bridge.stopped:\n    self._bridge.run(self._inner.close())"
    if (owner, name) == ("Consumer", "__aiter__"):
        return iterated(kind, "self._bridge.messages(self._inner, self._fetched)")
    if owner in HOLDING and (how := HOLDING[owner].get(name)):
        return how
    if (owner, name) == ("Reader", "__aiter__"):
        return "for batch in self.batches():\n    yield from batch.messages"
    if name == "__aenter__":
        return (
            "return self"
            if owner in ("Client", "Transaction")
            else "self._bridge.run(self._inner.__aenter__())\nreturn self"
        )
    if (owner, name) == ("Transaction", "__aexit__"):
        return f"self._bridge.run({call})"
    if name == "__aexit__":
        return "self.close()"
    if name == "ack" and owner in ("Message", "Batch"):
        span = ", ".join(
            f"self._inner.{end}"
            for end in (("sequence",) * 2 if owner == "Message" else ("first_sequence", "last_sequence"))
        )
        return f"if confirm or not self._bridge.note_ack(self._inner, {span}):\n    self._bridge.run({call})"
    if any(ast.unparse(one) == "property" for one in function.decorator_list):
        return f"return {wrapped(kind, f'self._inner.{name}')}"
    if name in ("__len__", "__repr__"):
        return f"return {'len' if name == '__len__' else 'repr'}(self._inner)"
    if name == "__iter__":
        return iterated(kind, "self._inner")
    if kind.startswith("Iterator["):
        return iterated(kind, f"self._bridge.iterate({call})")
    if isinstance(function, ast.AsyncFunctionDef):
        return (
            f"return {wrapped(kind, f'self._bridge.run({call})')}"
            if kind != "None"
            else f"self._bridge.run({call})"
        )
    if kind in ("SyncConsumer", "SyncReader"):
        return f"return {wrapped(kind, f'self._bridge.call(lambda: {call})')}"
    return f"return {wrapped(kind, call)}"


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line if line.strip() else line for line in text.strip("\n").splitlines())


def method(owner: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    kind = annotation(function.returns)
    name = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__"}.get(
        function.name, function.name
    )
    lines = ["@property"] if any(ast.unparse(one) == "property" for one in function.decorator_list) else []
    lines.append(f"def {name}({parameters(function)}) -> {kind}:")
    doc = ast.get_docstring(function)
    if doc:
        lines.append(indented(f'"""{blocking(doc)}{chr(10) if chr(10) in doc else ""}"""', 4))
    lines.append(indented(textwrap.dedent(body(owner, function, kind)), 4))
    return "\n".join(lines)


def attribute(declared: ast.AnnAssign) -> str:
    """The twin of a public attribute that is declared in the body of an asyncio class."""
    kind, name = annotation(declared.annotation), ast.unparse(declared.target)
    return f"@property\ndef {name}(self) -> {kind}:\n    return {wrapped(kind, f'self._inner.{name}')}"


def twin(owner: str, module: str) -> str:
    tree = ast.parse((HERE / f"{module}.py").read_text())
    original = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner)
    out = [f"class Sync{owner}:", indented(f'"""{blocking(ast.get_docstring(original) or "")}\n"""', 4), ""]
    if owner != "Client":
        out.append(
            indented(
                f"def __init__(self, bridge: Bridge, inner: {owner}) -> None:\n    self._bridge = bridge\n    self._inner = inner",
                4,
            )
        )
        if owner == "Consumer":
            out.append("        self._fetched: deque[Message] = deque()")
        out.append("")
    for node in original.body:
        if isinstance(node, ast.AnnAssign):
            out += [indented(attribute(node), 4), ""]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(owner, node.name):
            out += [indented(method(owner, node), 4), ""]
            if (owner, node.name) == ("Client", "__init__"):
                out += [CLIENT_OF]
    return "\n".join(out)


def is_public(owner: str, name: str) -> bool:
    if name == "__init__":
        return owner == "Client"
    return name not in HIDDEN and (name.startswith("__") or not name.startswith("_"))


def generated() -> str:
    text = "\n\n".join([HEAD, *(twin(owner, module) for owner, module in TWINS.items())])
    for step in (["check", "--select", "I,RET,RUF100,W", "--fix", "-q", "-e"], ["format", "-q"]):
        command = [sys.executable, "-m", "ruff", *step, "--stdin-filename", str(HERE / "_sync.py"), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> int:
    path, text = HERE / "_sync.py", generated()
    if "--check" in sys.argv[1:]:
        stale = not path.exists() or path.read_text() != text
        if stale:
            sys.stderr.write("client/taskraft/_sync.py is stale: run python -m taskraft._generate_sync\n")
        return int(stale)
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
