"""`maitred doctor`: what a live instance does, tried out from outside as its clients would.

It must not be needed by the product: its driver comes with the extra `maitred[doctor]`.
Called by `maitred.cli`.
"""

from .isolation import DoctorError, examine_url, report

__all__ = ["DoctorError", "examine_url", "report"]
