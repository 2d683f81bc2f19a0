"""maitred: seat very many database clients at very few database connections.

The package's public names and its version; no logic lives here.
Imported by whoever embeds maitred, and by the command line.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
