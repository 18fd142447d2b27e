"""`python -m edge` is the `edge` command."""

import os
import sys

# `-m` puts the current folder first: a user's queue.py there would be the standard library's to every process of ours.
# The application's folder is added in the worker, just before the application is imported.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from edge.cli import main

sys.exit(main())
