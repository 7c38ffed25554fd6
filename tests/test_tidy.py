"""What linters cannot know about this repository: which way imports point, how large rooms are, what must not be left.

Ruff and mypy judge the code, `make check` judges generated stubs and the public contract; the rest is here.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ["raft", "node", "client/taskraft", "tests", "proto", "deploy", ".ci"]
SOURCES = ["raft", "node", "client/taskraft"]
OURS = {"raft", "node", "taskraft"}
MAY_IMPORT = {
    "raft": {"raft"},
    "node": {"raft", "node", "taskraft.v1", "taskraft.internal.v1"},
    "client/taskraft": {"taskraft"},
}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60  # of its body: the signature of a command is a table of options

LEFTOVERS = re.compile(
    r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|breakpoint\(\)|^(<<<<<<<|>>>>>>>)", re.MULTILINE
)
MACHINE_PATHS = re.compile(r"/(home|Users|work|root)/[\w.-]+")
PROTO_ITEM = re.compile(
    r"(message|enum|service|rpc|oneof) \w+|(repeated |optional )?[\w.<>, ]+ \w+ = \d+( \[.*\])?;|\w+ = \d+;"
)


def is_generated(path: Path) -> bool:
    """Stubs, and the blocking twin of the client: what they are made from is judged instead."""
    return "_pb2" in path.name or path.name == "_sync.py"


def files(folders: list[str], pattern: str = "*") -> list[Path]:
    """Files below these folders, without what tools left there."""
    found = (path for folder in folders for path in (ROOT / folder).rglob(pattern))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def texts() -> list[Path]:
    """Everything that people read and write."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name != "LICENSE"]
    return [path for path in [*files(FOLDERS), *top] if not is_generated(path)]


def python_files(folders: list[str]) -> list[Path]:
    return [path for path in files(folders, "*.py") if not is_generated(path)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of what a module imports, also inside functions and for types only."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            yield from (f"{item.module}.{alias.name}" for alias in item.names)


def wrong_imports(folder: str, tree: ast.AST) -> list[str]:
    ours = [name for name in imported(tree) if name.split(".")[0] in OURS]
    return [name for name in ours if not any(f"{name}.".startswith(f"{may}.") for may in MAY_IMPORT[folder])]


@pytest.mark.parametrize("folder", SOURCES)
def test_imports_point_one_way(folder: str) -> None:
    wrong = {
        name_of(path): wrong_imports(folder, ast.parse(path.read_text())) for path in python_files([folder])
    }

    assert {path: names for path, names in wrong.items() if names} == {}


def test_a_wrong_import_would_be_noticed() -> None:
    tree = ast.parse(
        "import json, node.broker\nfrom taskraft import Client\nfrom taskraft.v1 import queue_pb2"
    )

    assert wrong_imports("raft", tree) == ["node.broker", "taskraft.Client", "taskraft.v1.queue_pb2"]
    assert wrong_imports("node", tree) == ["taskraft.Client"]


def test_the_consensus_engine_has_one_door() -> None:
    users = {
        name_of(path)
        for path in python_files(["raft", "node", "client/taskraft"])
        if "pysyncobj" in path.read_text()
    }

    assert {path.split("/")[0] for path in users} <= {"raft"}


def test_a_file_can_be_read_in_one_sitting() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in python_files([*SOURCES, "tests"])}

    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{name_of(path)}:{item.lineno} {item.name}"
        for path in python_files([*SOURCES, "tests"])
        for item in ast.walk(ast.parse(path.read_text()))
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        and (item.end_lineno or 0) - item.body[0].lineno >= FUNCTION_LINES_MAX
    ]

    assert long == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path) for path in python_files(SOURCES) if not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_nothing_is_left_to_be_done_later() -> None:
    assert [name_of(path) for path in texts() if LEFTOVERS.search(path.read_text())] == []


def test_no_file_names_somebodys_machine() -> None:
    assert [name_of(path) for path in texts() if MACHINE_PATHS.search(path.read_text())] == []


def test_text_ends_with_one_line_break_and_has_no_blanks_at_line_ends() -> None:
    untidy = [
        name_of(path)
        for path in texts()
        if (text := path.read_text())
        and (not text.endswith("\n") or re.search(r"[ \t]$", text, re.MULTILINE))
    ]

    assert untidy == []


def test_every_word_of_the_public_contract_is_explained() -> None:
    silent = []
    for path in files(["proto"], "*.proto"):
        above = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if PROTO_ITEM.match(line.strip()) and not above.startswith("//"):
                silent.append(f"{name_of(path)}:{number} {line.strip()}")
            above = line.strip()

    assert silent == []


def test_the_folder_of_a_proto_is_its_package() -> None:
    wrong = [
        name_of(path)
        for path in files(["proto"], "*.proto")
        if f"package {'.'.join(path.relative_to(ROOT / 'proto').parts[:-1])};" not in path.read_text()
    ]

    assert wrong == []


def test_only_packages_have_an_init() -> None:
    assert [name_of(path) for path in files(["tests", "proto", "deploy"], "__init__.py")] == []
    assert not (ROOT / "client" / "__init__.py").exists()
