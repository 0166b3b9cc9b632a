"""The decisions of a run's owner, from admission to the final record. Pure."""
