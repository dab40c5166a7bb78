"""`python -m service` is the command line, where the `eventbus` script is not on PATH."""

from service.cli import main

if __name__ == "__main__":
    main(prog_name="eventbus")
