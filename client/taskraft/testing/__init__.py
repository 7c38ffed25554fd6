"""For tests of programs that use taskraft: a real broker of one node, and a worker in this process.

    from taskraft import testing

    def test_images_are_resized() -> None:
        with testing.node() as address:
            app.addresses = address
            with testing.run_worker(app):
                assert resize.submit("a.jpg", width=640).result(timeout=5) == "a-640.jpg"

The node starts in about a second, on free ports and in a directory of its own, and is gone with all that it stored at the
end of the block. One for many tests is cheaper: with `pytest_plugins = ["taskraft.testing.plugin"]` in a conftest.py
there is a fixture `taskraft_node`, the address of a node that all tests of a run share.
"""

from taskraft.testing.nodes import NodeFailed, node
from taskraft.testing.workers import run_worker

__all__ = ["NodeFailed", "node", "run_worker"]
