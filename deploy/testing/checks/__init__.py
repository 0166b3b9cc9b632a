"""What has to be seen working on a real cluster: installation, requests, scaling, kills, drain, upgrades.

Each check is a function that takes the `Release` and returns what it measured; it fails with `CheckFailedError`.
"""
