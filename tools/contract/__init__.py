"""The published contract: JSON Schemas of every message, an AsyncAPI document of the topics, an index of names.

`python -m contract` generates everything from the models and constants that the services use, and compares it with
the committed files. A build tool: no service imports it.
"""

from __future__ import annotations
