"""What holds for all tests: one Hypothesis profile, a header that names what a failure may depend on, a collector that
does not walk through thousands of collected tests each time, and a Ctrl-C that reaches the programs they start."""

import gc
import os
import platform
import signal
import sys

import apsw
from hypothesis import settings

# No deadline: the machine that runs this is shared, and its speed is what `make bench` is for. print_blob: a failure
# seen elsewhere can be run here.
settings.register_profile("holdfast", deadline=None, print_blob=True)
settings.load_profile("holdfast")

# A shell starts what it runs in the background with SIGINT ignored, and every program started by it inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    seed = os.environ.get("PYTHONHASHSEED", "random")
    sqlite = apsw.sqlite_lib_version()
    return f"holdfast: Python {platform.python_version()} on {sys.platform}, SQLite {sqlite}, PYTHONHASHSEED={seed}"


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
