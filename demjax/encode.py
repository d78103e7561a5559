"""`python -m demjax.encode`: the same as `demjax encode`."""

from demjax.cli.encode import run

if __name__ == "__main__":
    run()
