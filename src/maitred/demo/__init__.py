"""`maitred demo`: a thousand clients on ten connections of a real database, on this machine.

It must not be needed by the product: its PostgreSQL comes with the extra `maitred[demo]`, its
MariaDB (`--mysql`) from the system.
Called by `maitred.cli`.
"""

from .show import run

__all__ = ["run"]
