"""What operators do to a system from outside: explain an open run, rebuild the store. Above the services."""
