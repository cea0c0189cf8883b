"""Benchmarks: each prints the workload, the ceiling and the distance to it, and ends with one JSON line."""
