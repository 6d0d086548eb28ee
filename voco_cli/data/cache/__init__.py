"""Deterministic preprocessing, and the store of its results."""
