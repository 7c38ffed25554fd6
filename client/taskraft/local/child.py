"""Becomes a node that cannot outlive the process that started it. Run as a script: PARENT_PID COMMAND...

It stands between fork and exec so that the parent, which may run gRPC threads, never executes Python in a
forked copy of itself. It imports nothing but the standard library, for the sake of a quick start.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>; survives the exec


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    os.setpgid(0, 0)  # Ctrl-C in the terminal is for the parent: it stops the nodes in its own way
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent died before this node was started")
    os.execv(command[0], command)  # noqa: S606  the command is the parent's own


if __name__ == "__main__":
    main()
