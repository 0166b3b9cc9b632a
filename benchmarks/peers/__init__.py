"""Compares Anabranch with its peers: the same fan-out and join, in one run, on one machine and the same
servers."""
