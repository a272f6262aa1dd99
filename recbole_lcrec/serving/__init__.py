"""Recommendations over HTTP: what arrives together is decoded together, and a page shows what a run recommends."""
