"""Records on topics and in the store: messages, events, results, run records and views, and their encoding.
Pure."""
