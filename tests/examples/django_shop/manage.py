"""A Django shop that keeps its connections: `manage.py migrate`, `manage.py test`.

It knows nothing of maitred; the tests run it, and you can:

    DATABASE_URL=postgresql://app@127.0.0.1:6432/shop python manage.py test
    DATABASE_URL=mysql://app:password@127.0.0.1:6033/shop python manage.py test
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
