"""`python -m mbpo` is the command line."""

from mbpo.cli import main

if __name__ == "__main__":
    main()
