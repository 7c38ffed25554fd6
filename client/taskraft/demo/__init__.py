"""A demonstration on real input: the standard library's source files through a cluster whose leader is killed.

Run it with `taskraft demo`. Read `story.py` (what happens), `counting.py` (the consumers' side), then `verdict.py`
(what must be true at the end).
"""

from taskraft.demo.counting import source_files
from taskraft.demo.story import tell

__all__ = ["source_files", "tell"]
