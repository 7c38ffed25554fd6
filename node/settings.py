# ruff: noqa: RUF009  `_setting` is `dataclasses.field`
"""The settings of a node: one frozen value, read once, refused early.

A setting comes from its default, from a TOML file (`--config FILE`), from the environment (TASKRAFT_NODE_ID
for node_id) or from a flag (--node-id); the later of these wins. Whatever is unknown, malformed, out of its
limits or in contradiction to another setting is refused before the node touches anything, with the setting's
name, where it came from and what is allowed. There are no booleans, because "0" and "false" are true: a choice
has words. Nothing else in `node` reads the environment.

Limits that decide what a command does to the replicated state are no settings: all nodes must share them, so
they are constants in `node/limits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from node import limits
from node.limits import GIB, KIB, MIB
from node.setting_kinds import (
    Address,
    Bytes,
    Choice,
    Directory,
    Kind,
    Members,
    Name,
    Number,
    is_unspecified,
)
from node.setting_sources import (
    CONFIG,
    SettingsError,
    check_one,
    flag_of,
    read_environment,
    read_file,
    read_flags,
    read_one,
    variable_of,
)
from raft import limits as raft_limits
from raft.types import Member

__all__ = ["Settings", "SettingsError"]


class Contradiction(SettingsError):
    """Settings that are fine one by one do not go together. `names` are the ones at fault."""

    def __init__(self, message: str, *names: str) -> None:
        super().__init__(message)
        self.names = names


def _setting(kind: Kind, about: str, default: Any = MISSING) -> Any:
    """A field of Settings. `about` is the sentence that --help and deploy/taskraft.toml print."""
    return field(default=default, metadata={"kind": kind, "about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one node runs. Invariant: every value is within its limits and none contradicts another.

    An empty advertised address becomes the address it stands for, and an empty `members` of a founding node
    becomes the node alone, so readers never meet the empty values.
    """

    node_id: str = _setting(Name(), "this node's name, another one on every node and kept for life")
    cluster: str = _setting(
        Name(), "the cluster's name; nodes of another cluster are turned away", "taskraft"
    )
    data_dir: Path = _setting(Directory(), "where the log and the state are kept", Path("data"))
    members: tuple[Member, ...] = _setting(
        Members(), "the founding members, this node included; read while the disk is empty; none: alone", ()
    )
    join: str = _setting(
        Choice(("no", "yes")), "yes: this node founds no cluster, it waits to be added to one", "no"
    )

    grpc_listen: str = _setting(Address(), "where clients, workers and administrators call", "127.0.0.1:7001")
    http_listen: str = _setting(Address(), "where metrics and health are served", "127.0.0.1:7101")
    raft_listen: str = _setting(Address(), "where the other members connect", "127.0.0.1:7201")
    grpc_advertise: str = _setting(
        Address(optional=True), "where clients reach grpc_listen; empty: the same address", ""
    )
    http_advertise: str = _setting(
        Address(optional=True), "where people reach http_listen; empty: the same address", ""
    )
    raft_advertise: str = _setting(
        Address(optional=True),
        "where members reach raft_listen; empty: as in members, or the same address",
        "",
    )

    heartbeat_ms: int = _setting(Number(5, 10_000), "how often a leader is heard of", 50)
    election_ms: int = _setting(
        Number(50, 60_000), "silence after which a follower stands, at random up to twice as long", 500
    )
    peer_idle_ms: int = _setting(
        Number(500, 600_000), "silence after which a connection between members is given up", 3_000
    )
    shutdown_ms: int = _setting(
        Number(0, 600_000), "how long a stopping node lets calls finish before it cuts them off", 10_000
    )
    checkpoint_ms: int = _setting(
        Number(100, 600_000), "how often the state is made durable and old log segments are given up", 5_000
    )

    log_segment_bytes: int = _setting(
        Bytes(8 * MIB, GIB), "size of one file of the log, allocated in advance", raft_limits.SEGMENT_BYTES
    )
    log_bytes_max: int = _setting(
        Bytes(32 * MIB, 1024 * GIB), "beyond this the messages in old segments move to the store", 4 * GIB
    )
    log_cache_bytes: int = _setting(
        Bytes(0, 16 * GIB), "memory for the newest entries of the log", raft_limits.CACHE_BYTES
    )
    snapshot_piece_bytes: int = _setting(
        Bytes(4 * KIB, 8 * MIB),
        "piece in which a snapshot goes to a member that lags",
        raft_limits.SNAPSHOT_PIECE_BYTES,
    )
    disk_free_min_bytes: int = _setting(
        Bytes(0, 1024 * GIB), "with less free disk than this, writes are refused with DISK_LOW", 256 * MIB
    )

    message_bytes_max: int = _setting(
        Bytes(KIB, limits.MESSAGE_BYTES_MAX),
        "ceiling for the largest message that a queue may allow",
        limits.MESSAGE_BYTES_MAX,
    )
    publish_inflight_bytes_max: int = _setting(
        Bytes(limits.PUBLISH_BYTES_MAX, 64 * GIB),
        "publishes on their way to a commit; more are refused with OVERLOADED",
        64 * MIB,
    )
    peer_outbox_bytes_max: int = _setting(
        Bytes(raft_limits.FRAME_BYTES_MAX, 16 * GIB),
        "log entries that wait for one member's connection",
        raft_limits.OUTBOX_BYTES_MAX,
    )

    log_level: str = _setting(
        Choice(("debug", "info", "warning", "error")), "the least important facts that are logged", "info"
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            check_one(each, getattr(self, each.name))
        named = {member.id: member.address for member in self.members}
        self._fill("grpc_advertise", self.grpc_listen)
        self._fill("http_advertise", self.http_listen)
        self._fill("raft_advertise", named.get(self.node_id, self.raft_listen))
        if not self.members and self.join == "no":
            self._fill("members", (Member(self.node_id, self.raft_advertise),))
        check_members(self)
        check_addresses(self)
        check_amounts(self)

    def _fill(self, name: str, value: object) -> None:
        if not getattr(self, name):
            object.__setattr__(self, name, value)

    @classmethod
    def load(cls, argv: Sequence[str], environ: Mapping[str, str]) -> Self:
        """Read flags, environment and the file they name. Raises SettingsError.

        `--help` prints every setting and exits, as programs do.
        """
        require_assertions()
        flags = read_flags(FIELDS, argv)
        variables = read_environment(FIELDS, environ)
        file = flags.pop(CONFIG, None) or variables.pop(CONFIG, None)
        variables.pop(CONFIG, None)

        values: dict[str, object] = {}
        sources: dict[str, str] = {}
        for source, texts in (
            ("the file {config}", read_file(FIELDS, Path(file)) if file else {}),
            ("the environment, {variable}", variables),
            ("the flag {flag}", flags),
        ):
            for name, text in texts.items():
                each = FIELDS[name]
                sources[name] = source.format(config=file, variable=variable_of(name), flag=flag_of(name))
                values[name] = read_one(each, text, sources[name])
        if missing := [
            name for name, each in FIELDS.items() if each.default is MISSING and name not in values
        ]:
            name = missing[0]
            raise SettingsError(
                f"{name} is missing: set {flag_of(name)}, {variable_of(name)} or {name} in a file"
            )
        try:
            return cls(**values)  # type: ignore[arg-type]  # read_one checked every value against its kind
        except Contradiction as error:
            origins = (f"{name} comes from {sources.get(name, 'its default')}" for name in error.names)
            raise SettingsError(f"{error} ({'; '.join(origins)})") from None


FIELDS: dict[str, Field[Any]] = {each.name: each for each in fields(Settings)}


def require_assertions() -> None:
    """Refuse `python -O`: the assertions that it removes guard the replicated state."""
    if not __debug__:
        raise SettingsError(
            "taskraft does not run under python -O or PYTHONOPTIMIZE: its assertions are part of it"
        )


def check_members(settings: Settings) -> None:
    """A founding node is among the members under the address that it tells them; a joining one is not."""
    named = {member.id: member.address for member in settings.members}
    me, address = settings.node_id, settings.raft_advertise
    if settings.join == "yes" and me in named:
        raise Contradiction(f"members names {me} as a founder, but join = yes", "members", "join", "node_id")
    if settings.join == "no" and me not in named:
        raise Contradiction(f"members must name this node, {me}, unless join = yes", "members", "node_id")
    if settings.join == "no" and named[me] != address:
        raise Contradiction(
            f"raft_advertise = {address} must be what members says for {me}, {named[me]}",
            "raft_advertise",
            "members",
        )


def check_addresses(settings: Settings) -> None:
    """Three ports, and addresses that others can call."""
    listens = ("grpc_listen", "http_listen", "raft_listen")
    for i, one in enumerate(listens):
        for other in listens[i + 1 :]:
            if getattr(settings, one) == getattr(settings, other):
                raise Contradiction(
                    f"{one} and {other} must differ, both are {getattr(settings, one)}", one, other
                )
    for name in ("grpc_advertise", "http_advertise", "raft_advertise"):
        if is_unspecified(getattr(settings, name)):
            listen = name.replace("advertise", "listen")
            raise Contradiction(
                f"{name} must be set to an address that others can reach, not {getattr(settings, name)}",
                name,
                listen,
            )


def check_amounts(settings: Settings) -> None:
    """Times and sizes that only make sense in proportion."""
    beats = raft_limits.HEARTBEATS_PER_ELECTION
    if settings.election_ms < beats * settings.heartbeat_ms:
        raise Contradiction(
            f"election_ms = {settings.election_ms} must be at least {beats} x heartbeat_ms = "
            f"{beats * settings.heartbeat_ms}: one lost heartbeat must not cost an election",
            "election_ms",
            "heartbeat_ms",
        )
    if settings.peer_idle_ms < settings.election_ms:
        raise Contradiction(
            f"peer_idle_ms = {settings.peer_idle_ms} must be at least election_ms = {settings.election_ms}",
            "peer_idle_ms",
            "election_ms",
        )
    if settings.log_bytes_max < 4 * settings.log_segment_bytes:
        raise Contradiction(
            f"log_bytes_max = {settings.log_bytes_max} must be at least 4 x log_segment_bytes = "
            f"{4 * settings.log_segment_bytes}: only whole segments are given up",
            "log_bytes_max",
            "log_segment_bytes",
        )
