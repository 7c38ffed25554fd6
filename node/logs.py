"""Logs are facts: one JSON object a line on stderr, with the time, the level, who says it and what happened.

    logging.getLogger("node.replica").info("election_won", extra={"fields": {"term": 7, "votes": 2}})

becomes

    {"at_ms": 1767225600000, "level": "INFO", "node": "n1", "from": "node.replica", "action": "election_won",
     "term": 7, "votes": 2}

The action is in the past tense, fields carry their units in their names. No message bodies, no secrets.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import TextIO


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; an exception is its field `error`, line breaks escaped.

    `fields` of a record must not repeat the names that every line has.
    """

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        fact: dict[str, object] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname,
            "node": self._node_id,
            "from": record.name,
            "action": record.getMessage(),
        }
        assert not fact.keys() & fields.keys(), (
            f"{record.name} logs {sorted(fact.keys() & fields.keys())} twice"
        )
        fact |= fields
        if record.exc_info:
            fact["error"] = self.formatException(record.exc_info)
        return json.dumps(fact, default=str)


def configure(level: str, node_id: str, stream: TextIO | None = None) -> None:
    """Send every log record of this process, and every warning, to `stream` (stderr) as JSON lines.

    `level` is one of Settings.log_level. Handlers that were there before are replaced.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(node_id))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
