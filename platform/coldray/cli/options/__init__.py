"""The options of every job: how they are told on the command line, and the typed values that the job gets of them."""
