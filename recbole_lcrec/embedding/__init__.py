"""Items to vectors: their text by lsa, any transformers encoder or a ready file, and their training interactions."""

from recbole_lcrec.embedding.encoders import EmbeddingSettings, Encoder, Task, embed_items

__all__ = ["EmbeddingSettings", "Encoder", "Task", "embed_items"]
