"""How commands reach a running system: one port, over Kafka and Redis or over a gateway's HTTP API."""
