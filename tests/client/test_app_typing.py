from __future__ import annotations

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[2]

PROGRAM = """
from collections.abc import AsyncGenerator, Generator

from taskraft import App

app = App()

@app.task(queue="images", max_attempts=5, resources={"cpu": 2})
def resize(path: str, width: int) -> str: ...

@app.task
async def fetch(url: str) -> bytes: ...

@app.task
def steps(n: int) -> Generator[int, None, str]: ...

@app.task()
async def more_steps(n: int) -> AsyncGenerator[int]:
    yield n

reveal_type(resize)  # TaskFunction[[path: str, width: int], str, str]
reveal_type(resize.submit)  # def (path: str, width: int) -> Handle[str]
reveal_type(resize.asubmit)  # def (path: str, width: int) -> Coroutine[Any, Any, Handle[str]]
reveal_type(resize("a", 1))  # str
reveal_type(resize.submit("a", width=1).result())  # str
reveal_type(resize.options(priority=1).submit("a", 1))  # Handle[str]
reveal_type(resize.map(["a"], width=1))  # Handles[str]
reveal_type(resize.map(["a"], width=1).results())  # list[str]
reveal_type(fetch.submit("u").result())  # bytes
reveal_type(steps.submit(1).result())  # str
reveal_type(more_steps.submit(1).result())  # Any
resize.submit(1, 2)  # error: incompatible type "int"; expected "str"
resize.submit("a")  # error: Missing positional argument "width"
resize.map(["a"], height=3)  # error: Unexpected keyword argument "height"
resize.options(priority="x")  # error: incompatible type "str"; expected "int"
resize.options(speed=1)  # error: Unexpected keyword argument "speed"
resize.submit(fetch.submit("u"), 1)  # error: incompatible type "Handle[bytes]"; expected "str"
resize.submit(resize.submit("a", 1).output, 1)
app.queue("q", policy="lottery")  # error: incompatible type "Literal['lottery']"
with app.workflow() as w:
    first = w.add(resize, "a", 1)
    reveal_type(first)  # Handle[str]
    w.add(resize, first.output, width=2)
    reveal_type(w.map(resize, ["x"], 3))  # Handles[str]
    w.add(resize, 3, 4)  # error: incompatible type "int"; expected "str"

async def story() -> None:
    reveal_type(await fetch("u"))  # bytes
    reveal_type(await fetch.submit("u"))  # bytes
    reveal_type(await fetch.asubmit("u"))  # Handle[bytes]
"""


def test_a_task_keeps_the_signature_of_its_function(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    options = [
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path / "cache"),
    ]

    out, failures, _ = api.run([*options, str(program)])

    assert failures == ""
    said: dict[int, str] = {}
    for line in out.splitlines():
        if match := re.match(r".*program\.py:(\d+): (?:note: Revealed type is |error: )(.*)", line):
            said.setdefault(int(match[1]), re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", match[2]))
    for number, line in enumerate(PROGRAM.splitlines(), 1):
        _, _, expected = line.partition("  # ")
        assert expected.removeprefix("error: ") in said.pop(number, ""), (line, out)
    assert said == {}
