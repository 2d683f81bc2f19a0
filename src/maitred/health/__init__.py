"""What endpoints say of themselves before anybody logs in.

Never logs in and decides nothing about pools. Called by `revisions` through `greeting`.
"""
