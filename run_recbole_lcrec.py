"""Train and evaluate a model: ``python run_recbole_lcrec.py --model=LCRec --dataset=ml-100k``, or ``--help``."""

import sys

from recbole_lcrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
