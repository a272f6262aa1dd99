"""``--export``: a finished run as a folder that plain transformers loads and recommends with."""
