"""Engines that run programs outside of the worker's interpreter, and the executor that uses them."""
