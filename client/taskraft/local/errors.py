"""What can go wrong with processes and directories on this machine."""


class LocalClusterError(Exception):
    """A local cluster could not do what was asked. `hint` says what a person can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
