"""Downloads: the registry of data sets and weights, transfers, archives, verification."""
