"""Whether this machine and this project are fit to run, and how to mend what is not.

Every check is a function that yields findings; none of them needs another to succeed, so that as
much as possible is said in a broken environment.
"""
