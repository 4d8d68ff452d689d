"""`python -m textattn`."""

from textattn.cli import main

if __name__ == "__main__":
    main()
