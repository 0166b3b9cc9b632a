"""The kinds of steps that a group has: what each does when it begins, and until it has ended."""
