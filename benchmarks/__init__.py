"""Measurements of the engine against the raw limit of the disk they run on. Run: python -m benchmarks."""
