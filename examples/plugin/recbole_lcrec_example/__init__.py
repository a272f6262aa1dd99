"""A model, a quantizer, an encoder and a converter for recbole_lcrec."""
