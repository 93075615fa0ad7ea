"""`python -m invkit` is the same as `invkit`."""

from invkit.cli import main

if __name__ == "__main__":
    main()
