"""Our engine beside every peer that is installed: `python -m bench.serve`."""
