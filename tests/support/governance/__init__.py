"""What governance comes to, in memory: who may do what to which revision, flag, kill and node, and what a tenant then gets.

An oracle for the registry. It has no database, no locks, no digests and no HTTP; a state is a word in a dictionary.
"""
