"""Published test suites of drivers, run directly and through poolers, and compared test by test.

Holds no code of any suite and changes none of it.
Called by `make test-suites`; the rules ring checks the page that comes of it.
"""
