"""What operators see: the SQL-like console and the small HTTP server.

Reads reports and asks for actions through what it is given; it never holds the engine itself.
Called by `supervisor`.
"""
