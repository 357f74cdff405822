"""The command line: thin shells that ask the other rooms and print."""
