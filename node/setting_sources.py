"""Where settings come from: flags, TASKRAFT_* variables and a TOML file, all read into names and texts.

`known` are the fields of the settings, by name; each carries its kind and a sentence about itself. Every refusal is
a SettingsError that names the setting, the source and what is allowed.
"""

from __future__ import annotations

import argparse
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, NoReturn

from node.setting_kinds import Kind

PREFIX = "TASKRAFT_"
CONFIG = "config"
CLIENT_VARIABLES = {"TASKRAFT_ADDRESS", "TASKRAFT_DEBUG"}  # of the command line, in the same shell perhaps
KUBERNETES_LINKS = re.compile(
    r"([A-Z0-9_]+_)?(SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+|PORT(_[0-9]+_[A-Z]+)?=[a-z]+://.*"
    r"|PORT_[0-9]+_[A-Z]+_(PROTO|PORT|ADDR)=.*)"
)
"""What Kubernetes sets in every pod beside a Service named `taskraft`, without the prefix: no settings of ours."""

Known = Mapping[str, Field[Any]]


class SettingsError(Exception):
    """A setting is wrong, unknown, missing or contradicts another one; the message names it."""


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def read_one(each: Field[Any], text: str, source: str) -> object:
    """The value of one setting. SettingsError names the setting, the source and the limit."""
    kind: Kind = each.metadata["kind"]
    try:
        value = kind.read(text)
        kind.check(value)
    except ValueError:
        raise refusal(each, text, source) from None
    return value


def check_one(each: Field[Any], value: object) -> None:
    """Hold a value that was not read, but given by our own code, to the same limits."""
    kind: Kind = each.metadata["kind"]
    try:
        kind.check(value)
    except ValueError:
        raise refusal(each, kind.show(value), "our own code") from None


def refusal(each: Field[Any], text: str, source: str) -> SettingsError:
    return SettingsError(f"{each.name} = {text!r} from {source} must be {each.metadata['kind'].limit}")


def unknown(known: Known, name: str, source: str) -> SettingsError:
    near = difflib.get_close_matches(name, known, n=1)
    return SettingsError(f"{name} from {source} is no setting{f'; did you mean {near[0]}?' if near else ''}")


def read_file(known: Known, path: Path) -> dict[str, str]:
    """Names and texts of a TOML file: a flat list of texts and whole numbers."""
    source = f"the file {path}"
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{CONFIG}: {source} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{CONFIG}: {source} is not TOML: {error}") from None
    for name, value in given.items():
        if name not in known:
            raise unknown(known, name, source)
        if type(value) not in (str, int):
            raise refusal(known[name], str(value), source)
    return {name: str(value) for name, value in given.items()}


def read_environment(known: Known, environ: Mapping[str, str]) -> dict[str, str]:
    """Names and texts of the TASKRAFT_* variables; `config` may be among them."""
    given: dict[str, str] = {}
    for variable, text in environ.items():
        rest = variable.removeprefix(PREFIX)
        if rest == variable or variable in CLIENT_VARIABLES:
            continue
        if KUBERNETES_LINKS.fullmatch(f"{rest}={text}"):
            continue
        name = rest.lower()
        if variable != variable_of(name) or name not in {*known, CONFIG}:
            raise unknown(known, name, f"the environment, {variable},")
        given[name] = text
    return given


class Flags(argparse.ArgumentParser):
    """argparse that raises instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


def read_flags(known: Known, argv: Sequence[str]) -> dict[str, str]:
    """Names and texts of the flags; `config` may be among them."""
    given, rest = flags_parser(known).parse_known_args(argv)
    if rest:
        flag = rest[0].partition("=")[0]
        raise unknown(known, flag.removeprefix("--").replace("-", "_"), f"the flag {flag}")
    return {name: text for name, text in vars(given).items() if text is not None}


def flags_parser(known: Known) -> Flags:
    """One flag a setting, with its limit, its twin in the environment and its default."""
    parser = Flags(
        prog="taskraft node",
        usage="taskraft node --node-id NAME [--config FILE] [--SETTING VALUE]...",
        description="Run one taskraft node. Flags win over TASKRAFT_* variables, those over the file.",
        allow_abbrev=False,
    )
    parser.add_argument(
        flag_of(CONFIG), metavar="FILE", help=f"a TOML file with settings [{variable_of(CONFIG)}]"
    )
    for name, each in known.items():
        kind: Kind = each.metadata["kind"]
        default = "required" if each.default is MISSING else f"default {kind.show(each.default) or 'empty'}"
        parser.add_argument(
            flag_of(name),
            metavar=kind.metavar,
            help=f"{each.metadata['about']}; {kind.limit} [{variable_of(name)}, {default}]",
        )
    return parser
