"""`python -m mountd`: the daemon."""

import sys

from mountd.daemon import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
