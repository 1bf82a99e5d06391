"""A test suite for log backends, which authors of backends can run.

    from lllm.testing import SharedLogContract

    class TestMyLog(SharedLogContract):
        def open_log(self, folder):
            return MyLog(folder / "log")

pytest runs the tests, so this module needs pytest. `lllm.testing.contract` explains which class to
choose.
"""

from lllm.testing.contract import AppendContract, LogContract, SharedLogContract

__all__ = ["AppendContract", "LogContract", "SharedLogContract"]
