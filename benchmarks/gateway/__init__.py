"""Measures a gateway on real servers: submits per second, and the delay of an event to many listeners."""
