"""The history of the shop's tables; each step knows only the one before it. Run by Django."""
