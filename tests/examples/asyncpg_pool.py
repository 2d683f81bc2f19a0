"""asyncpg with its statement cache on, behind a pool in transaction mode: nothing to switch off.

It knows nothing of maitred; the tests run it, and you can:

    python asyncpg_pool.py postgresql://app@127.0.0.1:6432/shop
"""

import asyncio
import sys

import asyncpg


async def main(url: str) -> None:
    """Run one prepared statement on many connections."""
    async with asyncpg.create_pool(url, min_size=1, max_size=20) as pool:
        doubled = await asyncio.gather(
            *(pool.fetchval("select $1::int * 2", number) for number in range(100))
        )
    print(f"sum of {len(doubled)} answers: {sum(doubled)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
