"""The shop: products, orders, and the one rule that nobody may sell what is not there.

It holds no view; threads in `tests` stand for requests. Loaded by Django.
"""
