"""Forecasts a run before it starts: its finishing time, its costs and what bounds it, as distributions. Pure.

`forecast` runs the plan of a request many times in a model of the product (`trial`), with durations, failures and
costs drawn from what was measured (`measured`). See docs/forecast.md, and ADR 0039 for the model.
"""
