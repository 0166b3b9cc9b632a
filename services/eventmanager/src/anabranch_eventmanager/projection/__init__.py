"""Projects the events of runs onto documents and views. Pure."""
