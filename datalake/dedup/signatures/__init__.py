"""MinHash: ``minhash`` says the recipes, the kernels sign columns of text."""
