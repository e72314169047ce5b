"""What wa costs beside the bare thing it is built on: `python -m tests.benchmarks` prints the table.

Every figure is taken side by side with its yardstick in the same run, in turns, and the medians are shown.  The ratio
is the result; the absolute figures belong to the machine.  Nothing here passes or fails by wall time.
"""
