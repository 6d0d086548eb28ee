"""Metrics of categories, their tables and files."""
