"""`python -m trajlib`: see `trajlib.course.cli`."""

import os
import sys

from trajlib.course.cli import main

if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # the debugger's advice on frozen modules, on stderr
    sys.exit(main())
