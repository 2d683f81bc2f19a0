"""`python -m maitred`: the command line by another door.

Holds no logic of its own; `cli` does.
Called by the interpreter.
"""

from maitred.cli import main

raise SystemExit(main())
