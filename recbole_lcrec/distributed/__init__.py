"""Several processes that work on one run: who they are, how they are started, and how they share the work.

Nothing is imported here: the command line reads :mod:`recbole_lcrec.distributed.request` before torch is loaded.
"""
