"""Anabranch beside its peers: the same fan-out and join, in one run, on one machine, on the same servers."""
