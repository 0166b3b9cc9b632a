"""Feeds the projector: by Faust on Kafka, by a plain loop elsewhere."""
