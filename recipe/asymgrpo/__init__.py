"""AsymGRPO (arXiv 2604.04894): the algorithm, in pure torch. Importing this package alone imports nothing."""
