"""Products and orders, and how an order is placed.

Decides nothing about connections. Called by the tests, as views would call it.
"""

from django.db import models, transaction


class SoldOut(Exception):
    """Less is there than was asked for."""


class Product(models.Model):
    """Something to be sold, and how many are left."""

    name = models.CharField(max_length=80, unique=True)
    stock = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """Who bought how many of what."""

    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    customer = models.CharField(max_length=80)
    quantity = models.PositiveIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.quantity} {self.product} for {self.customer}"


def place_order(name: str, customer: str, quantity: int = 1) -> Order:
    """Sell, while holding the product's row.

    Raises:
        SoldOut: There is not enough of it; nothing has changed then.
    """
    with transaction.atomic():
        product = Product.objects.select_for_update().get(name=name)
        if product.stock < quantity:
            raise SoldOut(f"{product.stock} {name} left")
        product.stock -= quantity
        product.save(update_fields=["stock"])
        return Order.objects.create(product=product, customer=customer, quantity=quantity)
