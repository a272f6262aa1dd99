"""Embeddings to codes: the residual-quantized variational autoencoder and its training."""

from recbole_lcrec.quantizer.rqvae import RQVAE
from recbole_lcrec.quantizer.settings import QuantizerSettings
from recbole_lcrec.quantizer.training import train_rqvae

__all__ = ["RQVAE", "QuantizerSettings", "train_rqvae"]
