"""The published contract: JSON Schemas of every message, an AsyncAPI document of the topics, an index of names.

Everything is generated from the models and constants that the services use, by ``python -m
contract``, and compared with what is committed. Nothing here runs in a service, and no service
imports it.
"""

from __future__ import annotations
