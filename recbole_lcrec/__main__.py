"""``python -m recbole_lcrec`` is ``python run_recbole_lcrec.py``."""

import sys

from recbole_lcrec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
