"""``python -m recbole_lcrec`` is ``python run_recbole_lcrec.py``."""

from recbole_lcrec.cli.main import program

if __name__ == "__main__":
    program()
