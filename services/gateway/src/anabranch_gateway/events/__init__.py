"""The events topic as this gateway sees it: one reader, many listeners."""
