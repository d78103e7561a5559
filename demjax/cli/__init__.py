"""The command line, one file a command: `demjax COMMAND --help`."""
