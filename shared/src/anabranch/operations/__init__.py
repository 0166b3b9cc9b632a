"""Operations on a system from outside: explain why a run is open, rebuild the store. Layer above the services."""
