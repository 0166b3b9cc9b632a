"""Measures how long single tasks wait behind much other work: of other keys, levels and pools."""
