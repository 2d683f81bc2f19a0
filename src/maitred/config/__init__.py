"""Configuration: what can be set, how it is read, and what changes when it changes.

Talks to no engine and to no network; only files and the environment are read.
Called by `supervisor` through `load`, `snapshot` and `diff`.
"""
