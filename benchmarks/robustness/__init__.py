"""Damaged files and killed stages."""
