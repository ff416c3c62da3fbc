"""The axes along which one training run is spread over processes. Start with ``data_parallel.py``."""
