"""Reads the topic `requests`: validates each record and passes it on to the owner of its run."""
