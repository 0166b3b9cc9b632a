"""`anabranch bench`: measures the speed of an installation as a user observes it.

Every measurement publishes to `requests` and reads `results`; none looks into a service. `shapes` and `layered`
build the requests, `client` runs them and measures durations, `distribution` and `report` compute and print the
figures. Each command has a module of its own.
"""
