"""The README is run: its shell commands and its Python, as written, against the cluster that it starts."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskraft.local import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
TASKRAFT = [sys.executable, "-c", "from taskraft.cli import main; main()"]
SETTING_UP = (
    "python3 -m venv",
    "pip install",
    "taskraft up",
    ". .venv",
    "make ",
)  # done by who runs this test

pytestmark = pytest.mark.cluster


def environment(address: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return os.environ | {"TASKRAFT_ADDRESS": address, "PYTHONPATH": path, "COLUMNS": "120"}


def commands() -> list[str]:
    lines = [
        line.partition("#")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()
    ]
    return [line for line in lines if line and not line.startswith(SETTING_UP)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """The cluster of `taskraft up`, on ports that are free here."""
    port = free_port(3)
    argv = [
        *TASKRAFT,
        "up",
        "--port",
        str(port),
        "--data-dir",
        str(tmp_path_factory.mktemp("readme") / "data"),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment("")) as up:
        try:
            assert up.stdout is not None
            seen = ""
            while f"127.0.0.1:{port + 2}" not in seen or "Ctrl-C" not in seen:
                line = up.stdout.readline()
                assert line, f"taskraft up ended: {seen}"
                seen += line
            yield f"127.0.0.1:{port}"
        finally:
            up.send_signal(signal.SIGINT)
            up.communicate(timeout=30)
    assert up.returncode in (0, 130)


def test_the_commands_of_the_readme_do_what_it_says(address: str) -> None:
    said = ""
    for line in commands():
        argv = shlex.split(line)
        assert argv[0] == "taskraft", line
        done = subprocess.run(
            [*TASKRAFT, *argv[1:]],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(address),
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said += done.stdout

    assert len(commands()) >= 4
    assert "hello" in said
    assert "world" in said
    assert "leader" in said


@pytest.mark.parametrize("number", range(sum(kind == "python" for kind, _ in BLOCKS)))
def test_the_python_of_the_readme_runs_as_written(address: str, number: int, tmp_path: Path) -> None:
    code = [text for kind, text in BLOCKS if kind == "python"][number].replace("127.0.0.1:7001", address)
    script = tmp_path / "example.py"
    script.write_text(code)

    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(address),
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "b'" in done.stdout
