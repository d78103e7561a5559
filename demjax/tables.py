"""`python -m demjax.tables`: the same as `demjax tables`."""

from demjax.cli.tables import run

if __name__ == "__main__":
    run()
