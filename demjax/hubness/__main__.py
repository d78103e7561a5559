"""`python -m demjax.hubness`: the same as `demjax hubness`."""

from demjax.cli.hubness import run

if __name__ == "__main__":
    run()
