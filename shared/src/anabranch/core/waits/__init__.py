"""Waits of tasks: what a member waits for once its placeholders are filled in, and payloads and their schema."""
