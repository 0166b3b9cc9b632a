"""Dead letters: read off their topic, grouped, and decided on, for the command and for the gateway."""
