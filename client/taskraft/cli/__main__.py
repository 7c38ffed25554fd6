"""`python -m taskraft.cli`: the command line where the `taskraft` script is not on the path."""

from taskraft.cli import main

if __name__ == "__main__":
    main()
