"""Settings as a Django application in production has them, nothing of it for the sake of a pooler.

Server-side cursors stay on, connections are kept for ever; the address is DATABASE_URL.
Read by Django.
"""

import os
from urllib.parse import urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "only for the example"
INSTALLED_APPS = ["shop"]
USE_TZ = True
TIME_ZONE = "Europe/Lisbon"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "USER": _url.username,
        "NAME": _url.path.removeprefix("/"),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"options": "-c statement_timeout=20s"},
    }
}
