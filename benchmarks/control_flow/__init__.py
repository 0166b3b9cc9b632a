"""Measures control flow on real servers: long loops, and many open waits."""
