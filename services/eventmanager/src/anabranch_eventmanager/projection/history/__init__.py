"""What the history keeps of the log: rows, as a fold over records. Pure.

Rows depend on the records alone, not on how they are divided into batches.
"""
