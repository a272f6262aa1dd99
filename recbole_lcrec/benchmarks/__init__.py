"""Measurements of speed and size: ``python -m recbole_lcrec.benchmarks <name> [--size XS|S|M] [--output FILE]``."""
