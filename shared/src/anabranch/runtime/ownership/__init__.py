"""Owning partitions of a topic: consumer loop, replay, effects, commits, and the guards against faults."""
