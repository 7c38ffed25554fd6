"""The command line: `taskraft up`, `taskraft queue publish ...`, `taskraft status`.

Promises: 0 is success, 1 an error, 2 a wrong command line, 130 an interrupt. Results go to standard output
and everything else to standard error, so that `--output json` can be piped. An error is one red line with its
reason and a hint, never a traceback (set TASKRAFT_DEBUG=1 to see one).

Read `app.py` (what there is), then the file of a command; what they share is in `taskraft.terminal`.
"""

from taskraft.cli.app import main, run

__all__ = ["main", "run"]
