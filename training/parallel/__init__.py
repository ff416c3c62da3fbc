"""The axes along which one run is spread over processes. Start with ``data_parallel.py``."""
