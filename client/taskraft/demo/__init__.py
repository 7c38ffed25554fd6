"""A demonstration on real input: the standard library's source files through a cluster whose leader is killed.

Run it with `taskraft demo`. Read `story.py` (what happens to the messages), `counting.py` (the consumers' side),
`workflow.py` (the same as a workflow), `tasks.py` (the workers' side), then `verdict.py` and `executions.py` (what must
be true at the end).
"""

from taskraft.demo.counting import source_files
from taskraft.demo.story import tell

__all__ = ["source_files", "tell"]
