"""A model and a quantizer for recbole_lcrec."""
