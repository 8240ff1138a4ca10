"""Errors beside those of other libraries, and how the defaults were chosen."""
