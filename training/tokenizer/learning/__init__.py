"""Pre-token counts, and the merges that are learned from them. Begin with ``bpe_trainer``."""
