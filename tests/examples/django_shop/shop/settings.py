"""Settings as a Django application in production has them, nothing of it for the sake of a pooler.

Server-side cursors stay on, connections are kept for ever; DATABASE_URL says which PostgreSQL,
MariaDB or MySQL. Read by Django.
"""

import os
from urllib.parse import urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "only for the example"
INSTALLED_APPS = ["shop"]
USE_TZ = True
TIME_ZONE = "Europe/Lisbon"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Each kind of database, with what it calls waiting for twenty seconds and no longer.
_KINDS = {
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {"options": "-c statement_timeout=20s"},
    },
    "mysql": {
        "ENGINE": "django.db.backends.mysql",
        "OPTIONS": {"init_command": "set innodb_lock_wait_timeout = 20", "charset": "utf8mb4"},
    },
}
DATABASES = {
    "default": {
        **_KINDS[_url.scheme],
        "HOST": _url.hostname,
        "PORT": _url.port,
        "USER": _url.username,
        "PASSWORD": _url.password or "",
        "NAME": _url.path.removeprefix("/"),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
