"""Benchmarks: ``python -m recbole_lcrec.benchmarks NAME``."""
