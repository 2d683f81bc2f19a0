"""Metrics: what is measured, by name and unit, and the text that Prometheus reads.

Measures nothing itself; the engine counts, and this part names.
Called by `supervisor` through `expose`.
"""
