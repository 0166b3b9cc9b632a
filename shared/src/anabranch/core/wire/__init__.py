"""What is written to topics and to the store: messages, events, results, and their encoding. Pure."""
