"""Ways to execute the attempts of members: in this process so far."""
