"""The README is run: its shell commands and its Python, as written, against the cluster that it starts."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskraft.local import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHONS = [text for kind, text in BLOCKS if kind == "python"]
FILE_NAME = re.compile(r"# (\w+\.py)\n")
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
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """Where the reader works: with the files that the README asks to be saved."""
    found = tmp_path_factory.mktemp("reader")
    for code in PYTHONS:
        if name := FILE_NAME.match(code):
            (found / name[1]).write_text(code)
    return found


def ran(argv: list[str], address: str, folder: Path) -> str:
    """What a program says that has to succeed."""
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environment(address),
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def worker(address: str, folder: Path) -> Iterator[None]:
    """The worker of the README, in its own terminal."""
    (line,) = [line for line in commands() if line.startswith("taskraft worker ")]
    argv = [*TASKRAFT, *shlex.split(line)[1:], "--address", address]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=environment(address)
    ) as process:
        yield
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said


@pytest.mark.usefixtures("worker")
def test_the_commands_of_the_readme_do_what_it_says(address: str, folder: Path) -> None:
    said = ""
    for line in commands():
        argv = shlex.split(line)
        if argv[0] == "python":
            said += ran([sys.executable, *argv[1:]], address, folder)
        elif argv[:2] != ["taskraft", "worker"]:
            assert argv[0] == "taskraft", line
            said += ran([*TASKRAFT, *argv[1:]], address, folder)

    assert len(commands()) >= 8
    for word in (
        "hello",
        "world",
        "leader",
        "a.jpg at 640",
        "b.jpg at 320 + c.jpg at 320",
        "3 pages",
        "succeeded",
    ):
        assert word in said, f"{word} is missing in:\n{said}"


@pytest.mark.parametrize(
    "number", [at for at, code in enumerate(PYTHONS) if not FILE_NAME.match(code)]
)  # what is saved is run with the commands, beside its worker
def test_the_python_of_the_readme_runs_as_written(
    address: str, folder: Path, number: int, tmp_path: Path
) -> None:
    code = PYTHONS[number]
    script = tmp_path / "example.py"
    script.write_text(code)

    assert ran([sys.executable, str(script)], address, folder)


def test_the_test_of_the_readme_passes(address: str, folder: Path) -> None:
    (folder / "conftest.py").write_text('pytest_plugins = ["taskraft.testing.plugin"]\n')

    assert "1 passed" in ran([sys.executable, "-m", "pytest", "-q", "test_jobs.py"], address, folder)


def test_the_scheduler_of_the_readme_answers_as_it_says(address: str, tmp_path: Path) -> None:
    (code,) = [code for code in PYTHONS if "already_scheduled" not in code and "NewTask(" in code]
    script = tmp_path / "scheduler.py"
    script.write_text(
        code.replace('"jobs"', '"other-jobs"').replace('"report"', '"other"').replace('"backup"', '"save"')
    )

    said = ran([sys.executable, str(script)], address, tmp_path).split()
    again = ran([sys.executable, str(script)], address, tmp_path).split()

    assert said[1:8:2] == ["created", "created", "replaced", "already_scheduled"]
    assert " ".join(said[8:]) == "['save', 'other']"
    assert again[1:8:2] == ["already_scheduled"] * 4
