"""What the shop relies on: locked rows, streams, savepoints, session locks, kept connections.

Asks the database, never a pooler. Run by `manage.py test`, or by pytest-django.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import IntegrityError, connection, connections, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from shop.models import Order, Product, SoldOut, place_order

# The same in the words of each kind of database; `{}` is a thread's number.
WORDS = {
    "postgresql": {
        "set": [
            "set statement_timeout = '{}min'",
            "select set_config('shop.customer', '{}', false)",
        ],
        "ask": "select current_setting('statement_timeout'), current_setting('shop.customer'),"
        " current_setting('TimeZone')",
        "seen": ("{}min", "{}", "UTC"),
        "lock": "select pg_advisory_lock(7)",
        "unlock": "select pg_advisory_unlock(7)",
        "timeout": ("show statement_timeout", "20s"),
    },
    "mysql": {
        "set": ["set innodb_lock_wait_timeout = {}", "set @customer = '{}'"],
        "ask": "select concat(@@innodb_lock_wait_timeout), @customer, @@character_set_client",
        "seen": ("{}", "{}", "utf8mb4"),
        "lock": "select get_lock('nightly', 20)",
        "unlock": "select release_lock('nightly')",
        "timeout": ("select concat(@@innodb_lock_wait_timeout)", "20"),
    },
}


def words(name: str) -> Any:
    """What the database in use calls it."""
    return WORDS[connection.vendor][name]


def in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """What `work` returns in as many threads, each with a connection of its own."""

    def request(number: int) -> Any:
        try:
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(request, range(count)))


class ManyThreads(TransactionTestCase):
    """Requests that run at once."""

    def test_nobody_buys_what_is_not_there(self) -> None:
        Product.objects.create(name="lamp", stock=20)

        def buy(number: int) -> int:
            bought = 0
            for _ in range(5):
                try:
                    place_order("lamp", f"customer {number}")
                    bought += 1
                except SoldOut:
                    pass
            return bought

        self.assertEqual(sum(in_threads(buy, 8)), 20)
        self.assertEqual(Product.objects.get(name="lamp").stock, 0)
        self.assertEqual(Order.objects.count(), 20)

    def test_each_connection_keeps_its_own_settings(self) -> None:
        def ask(number: int) -> list[Any]:
            with connection.cursor() as cursor:
                for statement in words("set"):
                    cursor.execute(statement.format(number + 1))
            seen = []
            for _ in range(3):
                with connection.cursor() as cursor:
                    cursor.execute(words("ask"))
                    seen.append(cursor.fetchone())
            return seen

        for number, seen in enumerate(in_threads(ask, 6)):
            own = tuple(each.format(number + 1) for each in words("seen"))
            self.assertEqual(seen, [own] * 3)

    def test_one_thread_at_a_time_holds_the_session_lock(self) -> None:
        inside: list[int] = []

        def nightly(number: int) -> None:
            with connection.cursor() as cursor:
                cursor.execute(words("lock"))
                try:
                    inside.append(number)
                    self.assertEqual(len(inside), 1)
                    Product.objects.count()
                    inside.remove(number)
                finally:
                    cursor.execute(words("unlock"))
                    self.assertEqual(cursor.fetchone(), (True,))

        in_threads(nightly, 5)

    def test_rows_stream_while_others_work(self) -> None:
        Product.objects.bulk_create(Product(name=f"p{n}", stock=n) for n in range(500))
        seen = 0
        # Outside of a transaction Django declares this cursor WITH HOLD on PostgreSQL.
        for product in Product.objects.order_by("pk").iterator(chunk_size=50):
            seen += 1
            if seen % 100 == 0:
                Product.objects.filter(pk=product.pk).update(stock=0)
        self.assertEqual(seen, 500)
        self.assertEqual(Product.objects.filter(stock=0).count(), 6)


class OneTransaction(TestCase):
    """What happens inside a block."""

    def test_a_savepoint_rolls_back_alone(self) -> None:
        Product.objects.create(name="chair", stock=1)
        with self.assertRaises(IntegrityError), transaction.atomic():
            Product.objects.create(name="chair", stock=2)
        Product.objects.create(name="table", stock=3)
        self.assertEqual(Product.objects.count(), 2)

    def test_rows_stream_inside_a_transaction(self) -> None:
        Product.objects.bulk_create(Product(name=f"p{n}", stock=n) for n in range(300))
        names = [product.name for product in Product.objects.order_by("pk").iterator(50)]
        self.assertEqual(names, [f"p{n}" for n in range(300)])

    def test_the_connection_has_the_timeout_that_settings_give_it(self) -> None:
        statement, timeout = words("timeout")
        with connection.cursor() as cursor:
            cursor.execute(statement)
            self.assertEqual(cursor.fetchone(), (timeout,))

    def test_an_order_is_placed_now(self) -> None:
        Product.objects.create(name="vase", stock=1)
        order = place_order("vase", "Ana")
        order.refresh_from_db()
        self.assertLess(abs((timezone.now() - order.placed_at).total_seconds()), 60)
        with self.assertRaises(SoldOut):
            place_order("vase", "Rui")
