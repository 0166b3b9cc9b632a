"""Why a run does not end: which facts are missing, and what stands in each one's way. Pure; reads no server."""
