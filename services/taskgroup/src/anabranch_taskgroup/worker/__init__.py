"""Takes offers, runs agents, and reports to the session's owner."""
