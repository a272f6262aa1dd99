"""Train and evaluate a model: ``python run_recbole_lcrec.py --model=LCRec --dataset=ml-100k``, or ``--help``."""

import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "error: recbole_lcrec needs Python 3.11 or newer, but this is Python %d.%d (%s). Make a virtual environment "
        "with a newer one, such as: python3.11 -m venv .venv\n" % (sys.version_info[:2] + (sys.executable,))
    )
    sys.exit(2)

try:
    from recbole_lcrec.cli.main import program
except ModuleNotFoundError as error:
    if str(error.name).startswith("recbole_lcrec"):
        raise
    sys.stderr.write(
        "error: the package %s is not installed for %s. Install what recbole_lcrec needs: pip install -e . "
        "-r requirements.txt && pip install --no-deps recbole==1.2.1\n" % (error.name, sys.executable)
    )
    sys.exit(2)

if __name__ == "__main__":
    program()
