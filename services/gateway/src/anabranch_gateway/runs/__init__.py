"""Submitting, finding and inspecting runs."""
