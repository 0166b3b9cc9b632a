"""The real services on a simulated log, store and network, with every fault there is, from one seed."""
