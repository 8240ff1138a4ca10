"""Measurements, each run as `python -m benchmarks.NAME`; none of them is a test."""

import sys
from pathlib import Path

# The library of this checkout, as the stages find it
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
