"""`python -m demjax.main`: the same as `demjax train`."""

from demjax.cli.train import run

if __name__ == "__main__":
    run()
