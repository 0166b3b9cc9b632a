"""Schedules: when requests are submitted by the clock. Pure: the time is always an argument."""
