"""Errors of predictions, and the baselines that they are compared with."""
