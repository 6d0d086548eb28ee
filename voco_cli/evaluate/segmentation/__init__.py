"""Metrics of label maps, their tables and files."""
