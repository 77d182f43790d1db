"""Worker processes that do not outlive the process that started them."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait

GRACE = 10  # seconds to shut a kernel down


def stop_with_parent() -> None:
    """In a worker: end it, gently and then for good, once its parent has ended, were it by SIGKILL."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)  # while a notebook runs, nbclient shuts its kernel down
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
