"""A test suite for log backends, which authors of backends can run.

    from lllm.testing import SharedLogContract

    class TestMyLog(SharedLogContract):
        def open_log(self, folder):
            return MyLog(folder / "log")

pytest does the rest; importing this module needs it. `lllm.testing.contract` says which class fits.
"""

from lllm.testing.contract import AppendContract, LogContract, SharedLogContract

__all__ = ["AppendContract", "LogContract", "SharedLogContract"]
