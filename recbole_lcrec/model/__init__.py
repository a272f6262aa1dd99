"""Generative recommenders as RecBole models."""
