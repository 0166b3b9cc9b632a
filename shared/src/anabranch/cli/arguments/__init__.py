"""Arguments of the commands, by theme. Each command hands them to the module in `cli.commands` that does the work.

The annotations and docstrings here are the published reference (`make reference`). A command imports its module
when it runs, so that `--help` and `plan` are quick.
"""
