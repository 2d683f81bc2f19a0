"""Who may log in: where passwords come from and the forms the engine checks them in.

Never speaks to a client; the engine does the exchange.
Called by `prepare` and `supervisor` through `store`.
"""
