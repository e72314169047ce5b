"""Campaigns from end to end: the file, the plan, letting it go, stopping it, looking after it.  Every door comes here.

It brings together what the rooms below keep apart: files from `sources`, decisions from `domain` and `services`, rows
from the store.  What a campaign is and may become is decided there.
"""
