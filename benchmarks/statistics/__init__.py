"""Whether intervals, p-values and verdicts hold."""
