"""`python -m node`: be a node. Exits with 0 after a signal, 1 if the node failed, 2 if a setting is wrong."""

from __future__ import annotations

import logging
import os
import sys

import uvloop

from node import logs
from node.settings import Settings, SettingsError
from node.state.store import StoreDamagedError
from node.supervisor import InUse, run
from raft import Damaged
from raft.storage import WrongDirectory

PLAIN = (InUse, WrongDirectory, Damaged, StoreDamagedError, OSError)
"""Failures that say in their message what an operator has to do; a traceback would only hide it."""


def main() -> int:
    try:
        settings = Settings.load(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"taskraft: {error}\n")
        return 2
    logs.configure(settings.log_level, settings.node_id)
    try:
        uvloop.run(run(settings))
    except Exception as error:
        why = {"fields": {"why": f"{type(error).__name__}: {error}"}}
        logging.getLogger("node").critical("node_failed", extra=why, exc_info=not isinstance(error, PLAIN))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
