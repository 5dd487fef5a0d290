"""Networks that other programs trained: their weights, their vocabularies, and the runs that they become."""
