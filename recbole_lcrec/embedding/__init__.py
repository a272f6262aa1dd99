"""Item text to vectors: lsa, any transformers encoder, or a ready file."""

from recbole_lcrec.embedding.encoders import EmbeddingSettings, embed_items

__all__ = ["EmbeddingSettings", "embed_items"]
