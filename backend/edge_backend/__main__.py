"""`python -P -m edge_backend LISTENER_FD CONTROL_FD`: a worker, started by the master only."""

import sys

from edge_backend.process import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
