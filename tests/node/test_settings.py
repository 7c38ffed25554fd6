"""Settings: where they come from, what is refused and how, and that file, flags and dataclass say the same."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path

import pytest

from node.setting_sources import flag_of, variable_of
from node.settings import FIELDS, Settings, SettingsError
from raft.types import Member

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "taskraft.toml"
NODE = ["--node-id", "n1"]


def refused(argv: list[str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load(argv, environ or {})
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Writes a settings file and answers its path."""

    def write(text: str) -> str:
        path = tmp_path / "node.toml"
        path.write_text(text)
        return str(path)

    return write


def test_a_name_is_all_that_a_lone_node_needs() -> None:
    settings = Settings.load(NODE, {})

    assert settings.node_id == "n1"
    assert settings.members == (Member("n1", "127.0.0.1:7201"),)
    assert settings.grpc_advertise == settings.grpc_listen == "127.0.0.1:7001"


def test_flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults(
    write: Callable[[str], str],
) -> None:
    file = write("heartbeat_ms = 11\nelection_ms = 2_001\ncheckpoint_ms = 3001\n")
    environ = {"TASKRAFT_ELECTION_MS": "2002", "TASKRAFT_CHECKPOINT_MS": "3002", "TASKRAFT_CONFIG": file}

    settings = Settings.load([*NODE, "--checkpoint-ms", "3003"], environ)

    found = settings.heartbeat_ms, settings.election_ms, settings.checkpoint_ms, settings.peer_idle_ms
    assert found == (11, 2002, 3003, 3000)


def test_the_file_named_by_a_flag_wins_over_the_one_named_by_the_environment(
    write: Callable[[str], str],
) -> None:
    file = write('cluster = "flag"')

    settings = Settings.load([*NODE, f"--config={file}"], {"TASKRAFT_CONFIG": "/nowhere"})

    assert settings.cluster == "flag"


def test_a_node_without_a_name_is_told_the_three_ways_to_give_one() -> None:
    assert refused([]) == "node_id is missing: set --node-id, TASKRAFT_NODE_ID or node_id in a file"


def test_a_wrong_value_is_refused_with_its_name_its_source_and_the_limit(write: Callable[[str], str]) -> None:
    limit = "must be a whole number from 5 to 10000"

    by_flag = refused([*NODE, "--heartbeat-ms", "4"])
    by_variable = refused(NODE, {"TASKRAFT_HEARTBEAT_MS": "soon"})
    by_file = refused([*NODE, "--config", file := write("heartbeat_ms = 10001")])

    assert by_flag == f"heartbeat_ms = '4' from the flag --heartbeat-ms {limit}"
    assert by_variable == f"heartbeat_ms = 'soon' from the environment, TASKRAFT_HEARTBEAT_MS {limit}"
    assert by_file == f"heartbeat_ms = '10001' from the file {file} {limit}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("node_id", ""),
        ("node_id", "n 1"),
        ("node_id", "x" * 65),
        ("cluster", "-c"),
        ("data_dir", ""),
        ("data_dir", __file__),
        ("members", "n1"),
        ("members", "n1=localhost"),
        ("members", "n1=h:1,n1=h:2"),
        ("members", "n1=h:1,n2=h:1"),
        ("members", ",".join(f"n{i}=h:{i}" for i in range(1, 11))),
        ("join", "true"),
        ("join", "1"),
        ("grpc_listen", "7001"),
        ("grpc_listen", ":7001"),
        ("http_listen", "h:0"),
        ("raft_listen", "h:65536"),
        ("raft_listen", "::1:7201"),
        ("raft_advertise", "a b:1"),
        ("election_ms", "-300"),
        ("election_ms", "300.0"),
        ("election_ms", "1e3"),
        ("election_ms", "٣٠٠"),
        ("log_segment_bytes", "1MiB"),
        ("log_segment_bytes", "64MB"),
        ("log_segment_bytes", "2GiB"),
        ("log_level", "INFO"),
    ],
)
def test_what_no_setting_can_be_is_refused_by_name(name: str, text: str) -> None:
    environ = {"TASKRAFT_NODE_ID": "n1"} | {variable_of(name): text}

    assert refused([], environ).startswith(
        f"{name} = {text!r} from the environment, {variable_of(name)} must be "
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [("8388608", 8 << 20), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("9_000_000", 9_000_000)],
)
def test_bytes_may_be_counted_or_given_in_binary_units(text: str, found: int) -> None:
    assert Settings.load([*NODE, "--log-segment-bytes", text], {}).log_segment_bytes == found


@pytest.mark.parametrize("value", ["true", "false", "1.5", "[1]", "1979-05-27"])
def test_a_file_holds_texts_and_whole_numbers_only(write: Callable[[str], str], value: str) -> None:
    assert refused([*NODE, "--config", write(f"cluster = {value}")]).startswith("cluster = ")


def test_an_unknown_setting_is_refused_with_its_source_and_the_nearest_name(
    write: Callable[[str], str],
) -> None:
    by_flag = refused([*NODE, "--election-mss=1"])
    by_variable = refused(NODE, {"TASKRAFT_ELECTION": "1"})
    by_file = refused([*NODE, "--config", file := write("elections_ms = 1")])

    assert by_flag == "election_mss from the flag --election-mss is no setting; did you mean election_ms?"
    assert by_variable == (
        "election from the environment, TASKRAFT_ELECTION, is no setting; did you mean election_ms?"
    )
    assert by_file == f"elections_ms from the file {file} is no setting; did you mean election_ms?"


def test_flags_are_not_abbreviated_and_need_a_value() -> None:
    assert "--elect" in refused([*NODE, "--elect", "300"])
    assert "--election-ms" in refused([*NODE, "--election-ms"])


def test_a_file_that_is_missing_or_no_toml_is_refused(write: Callable[[str], str]) -> None:
    assert "cannot be read" in refused([*NODE, "--config", "/nowhere/node.toml"])
    assert "line 2" in refused([*NODE, "--config", write("heartbeat_ms = 5\nelection_ms =\n")])


def test_what_kubernetes_and_the_command_line_put_into_the_environment_is_not_ours() -> None:
    environ = {
        "TASKRAFT_SERVICE_HOST": "10.0.0.1",
        "TASKRAFT_CLIENT_SERVICE_PORT_GRPC": "7001",
        "TASKRAFT_PORT": "tcp://10.0.0.1:7001",
        "TASKRAFT_PORT_7001_TCP": "tcp://10.0.0.1:7001",
        "TASKRAFT_PORT_7001_TCP_ADDR": "10.0.0.1",
        "TASKRAFT_ADDRESS": "localhost:7001",
        "PATH": "/bin",
    }

    assert Settings.load(NODE, environ) == Settings.load(NODE, {})
    assert "grpc_port" in refused(NODE, {"TASKRAFT_GRPC_PORT": "7001"})


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("--heartbeat-ms 101", ["election_ms", "heartbeat_ms"]),
        ("--election-ms 5000", ["peer_idle_ms", "election_ms"]),
        ("--log-bytes-max 100MiB", ["log_bytes_max", "log_segment_bytes"]),
        ("--http-listen 127.0.0.1:7001", ["grpc_listen", "http_listen"]),
        ("--grpc-listen 0.0.0.0:7001", ["grpc_advertise", "grpc_listen"]),
        ("--raft-listen [::]:7201", ["raft_advertise", "raft_listen"]),
        ("--members n2=h:1,n3=h:2", ["members", "node_id"]),
        ("--members n1=h:1,n2=h:2 --join yes", ["members", "join"]),
        ("--members n1=h:1 --raft-advertise h:2", ["raft_advertise", "members"]),
    ],
)
def test_a_contradiction_is_refused_with_both_names_and_where_they_come_from(
    flags: str, names: list[str]
) -> None:
    message = refused([*NODE, *flags.split()])

    assert all(f"{name} comes from " in message for name in names), message
    given = flags.split()[-2]
    assert f"{given[2:].replace('-', '_')} comes from the flag {given}" in message


def test_a_member_is_reached_where_the_list_of_members_says() -> None:
    settings = Settings.load([*NODE, "--members", "n1=n1.peers:7201, n2=[fe80::1]:7201"], {})

    assert settings.raft_advertise == "n1.peers:7201"
    assert settings.members == (Member("n1", "n1.peers:7201"), Member("n2", "[fe80::1]:7201"))


def test_a_joining_node_founds_nothing() -> None:
    settings = Settings.load([*NODE, "--join", "yes", "--raft-listen", "h:1"], {})

    assert settings.members == ()
    assert settings.raft_advertise == "h:1"


def test_settings_made_in_code_are_held_to_the_same_limits() -> None:
    with pytest.raises(SettingsError, match="heartbeat_ms = '1' from our own code must be"):
        Settings(node_id="n1", heartbeat_ms=1)


def test_every_setting_stands_once_in_the_example_file_with_its_default_and_its_meaning() -> None:
    lines = EXAMPLE.read_text().splitlines()
    given = [line[1:] for line in lines if re.match(r"#[a-z_]+ = ", line)]
    texts = {name: str(value) for name, value in tomllib.loads("\n".join(given)).items()}

    assert list(texts) == list(FIELDS)
    for name, each in FIELDS.items():
        kind = each.metadata["kind"]
        above = example_comment(lines, name)
        assert each.default is MISSING or kind.read(texts[name]) == each.default
        assert f"{each.metadata['about']}; {kind.limit}.".lower() in above.lower()
        assert ("Required." in above) == (each.default is MISSING)


def example_comment(lines: list[str], name: str) -> str:
    """The comment above a setting of the example file, as one line."""
    at = next(i for i, line in enumerate(lines) if line.startswith(f"#{name} = "))
    above: list[str] = []
    while lines[at - 1].startswith("# "):
        at -= 1
        above.insert(0, lines[at][2:])
    return " ".join(above)


def test_the_example_file_with_every_line_switched_on_is_accepted(write: Callable[[str], str]) -> None:
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text())

    assert Settings.load(["--config", write(text)], {}) == Settings.load(NODE, {})


def test_help_lists_every_setting_with_its_twin_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Settings.load(["--help"], {})
    told = " ".join(capsys.readouterr().out.split())

    assert ended.value.code == 0
    for name, each in FIELDS.items():
        shown = "required" if each.default is MISSING else each.metadata["kind"].show(each.default) or "empty"
        default = shown if each.default is MISSING else f"default {shown}"
        assert f"{flag_of(name)} {each.metadata['kind'].metavar} {each.metadata['about']}" in told
        assert f"[{variable_of(name)}, {default}]" in told


def test_every_default_is_within_its_own_limits_and_can_be_written_and_read_back() -> None:
    for each in FIELDS.values():
        if each.default is not MISSING:
            kind = each.metadata["kind"]
            kind.check(each.default)
            assert kind.read(kind.show(each.default)) == each.default


def test_a_node_does_not_run_without_its_assertions() -> None:
    program = "import node.settings as s\ntry: s.Settings.load(['--node-id', 'n1'], {})\nexcept s.SettingsError as e: print(e)"

    ran = subprocess.run(
        [sys.executable, "-O", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert "does not run under python -O" in ran.stdout


def test_every_setting_has_a_reader() -> None:
    sources = [path for path in ROOT.joinpath("node").rglob("*.py") if path.name != "settings.py"]
    text = "\n".join(path.read_text() for path in sources)

    assert [name for name in FIELDS if not re.search(rf"\bsettings\.{name}\b", text)] == []
