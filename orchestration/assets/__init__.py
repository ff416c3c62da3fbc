"""One file per group of the lineage graph."""
