"""The commands: each calls a system through `cli.backends` and prints the answer. `cli.arguments` parses."""
