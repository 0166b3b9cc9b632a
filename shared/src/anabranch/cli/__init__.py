"""The command line: parses arguments, calls the client or a service, prints the answer.

Importing it loads no library but the argument parser. Each command imports the rest when it runs.
"""
