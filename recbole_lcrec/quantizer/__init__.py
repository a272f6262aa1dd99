"""Embeddings or training interactions to codes: seven quantizers with one interface."""

from recbole_lcrec.quantizer.base import Inputs, Quantizer
from recbole_lcrec.quantizer.costs import Costs
from recbole_lcrec.quantizer.fitting import fit_quantizer, load_quantizer, quantizer_class
from recbole_lcrec.quantizer.quantizer_settings import QuantizerSettings
from recbole_lcrec.quantizer.rqvae import RQVAE, train_rqvae

__all__ = [
    "RQVAE",
    "Costs",
    "Inputs",
    "Quantizer",
    "QuantizerSettings",
    "fit_quantizer",
    "load_quantizer",
    "quantizer_class",
    "train_rqvae",
]
