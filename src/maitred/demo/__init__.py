"""`maitred demo`: a thousand clients on ten connections of a real PostgreSQL, on this machine.

It must not be needed by the product: its PostgreSQL comes with the extra `maitred[demo]`.
Called by `maitred.cli`.
"""

from .show import run

__all__ = ["run"]
