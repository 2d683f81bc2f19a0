"""The parts of `bench/run.py`: targets, loads, measures, and how they are shown.

They must not assert anything: a bench reports what it saw, people and the table's bars judge it.
Called by the programs in `bench/`.
"""
