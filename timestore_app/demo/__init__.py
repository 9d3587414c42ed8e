"""The demo: a server, real data through a real client, and the data back out, compared.

It is a client like any other: what it does can be done from any program.
"""
