"""The tables as the shop opened with them; later steps must not change this one. Run by Django."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Products and orders."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Product",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=80, unique=True)),
                ("stock", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("customer", models.CharField(max_length=80)),
                ("quantity", models.PositiveIntegerField()),
                ("placed_at", models.DateTimeField(auto_now_add=True)),
                (
                    "product",
                    models.ForeignKey(
                        "shop.Product", django.db.models.deletion.PROTECT, related_name="orders"
                    ),
                ),
            ],
        ),
    ]
