"""Products cost something: a column, a sweep over the rows, an index built beside the traffic.

Not atomic as a whole: PostgreSQL builds an index concurrently only outside of transactions, and
MariaDB, which always does, has none around tables. Run by Django.
"""

from django.db import connection, migrations, models

if connection.vendor == "postgresql":
    from django.contrib.postgres.operations import AddIndexConcurrently as AddIndex
else:
    from django.db.migrations import AddIndex


def _price_what_is_there(apps, schema_editor):
    product = apps.get_model("shop", "Product")
    for each in product.objects.iterator(chunk_size=100):
        each.price = len(each.name)
        each.save(update_fields=["price"])


class Migration(migrations.Migration):
    """A price for each product."""

    atomic = False
    dependencies = [("shop", "0001_tables")]
    operations = [
        migrations.AddField(
            "Product",
            "price",
            models.DecimalField(max_digits=8, decimal_places=2, default=0),
        ),
        migrations.RunPython(_price_what_is_there, migrations.RunPython.noop),
        AddIndex("Order", models.Index(fields=["customer"], name="order_customer")),
    ]
