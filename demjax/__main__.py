"""`python -m demjax`: the same as the command `demjax`."""

from demjax.cli.app import run

if __name__ == "__main__":
    run()
