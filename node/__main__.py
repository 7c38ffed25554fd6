"""`python -m node`: be a node. Exits with 0 after a signal, 1 if the node failed, 2 if a setting is wrong."""

from __future__ import annotations

import logging
import os
import sys

import uvloop

from node import logs
from node.settings import Settings, SettingsError
from node.supervisor import run


def main() -> int:
    try:
        settings = Settings.load(sys.argv[1:], os.environ)
    except SettingsError as error:
        sys.stderr.write(f"taskraft: {error}\n")
        return 2
    logs.configure(settings.log_level, settings.node_id)
    try:
        uvloop.run(run(settings))
    except Exception:
        logging.getLogger("node").critical("node_failed", exc_info=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
