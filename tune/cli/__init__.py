"""The command line: one file per job, each with its flags, its call and what it prints.

`tune.cli.main` finds the job among the arguments, refuses flags that the job does not read, and runs it. Jobs import
what they need when they run, so that --help and refusals take no seconds.
"""
