"""Pre-tokens to ids, and ids to bytes. Begin with ``encoder``."""
