"""Port between commands and a running system, with two implementations: Kafka and Redis, or a gateway's HTTP
API."""
