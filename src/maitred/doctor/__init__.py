"""`maitred doctor`: what a live instance does, tried out from outside as its clients would.

It must not be needed by the product: its driver comes with the extra `maitred[doctor]`.
Called by `maitred.cli`.
"""

from .bodies import lines_for
from .isolation import examine_url, report
from .routines import examine_routines
from .session import DoctorError

__all__ = ["DoctorError", "examine_routines", "examine_url", "lines_for", "report"]
