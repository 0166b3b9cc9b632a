"""Arguments of the commands, by theme. Each command passes them to a module in `cli.commands`.

The annotations and docstrings here are the published reference (`make reference`). A command imports its module
when it runs, so that `--help` and `plan` are quick.
"""
