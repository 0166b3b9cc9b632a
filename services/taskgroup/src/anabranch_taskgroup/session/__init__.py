"""The decisions of a session's owner: dependencies, members, joins, deadlines. Pure."""
